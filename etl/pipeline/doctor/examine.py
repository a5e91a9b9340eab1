"""All checks in their order: settings, database, and each source with its service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from etl.client import network_errors
from etl.client.client import Api
from etl.config import settings
from etl.config.secrets import Secret
from etl.errors import EtlError
from etl.models import Clock
from etl.pipeline.doctor import keeper
from etl.pipeline.doctor.checks import Check, Finding, Standing, failures
from etl.pipeline.doctor.database import database_checks
from etl.pipeline.doctor.report import Report
from etl.pipeline.doctor.service import examine_service
from etl.postgres import connection
from etl.state.sign_in import Reach, guard_sign_in


def examine(
    read_settings: Callable[[], settings.Settings],
    name: str | None,
    clock: Clock,
    database_url: Callable[[settings.Settings], str],
    source: Callable[[settings.Settings, str | None], settings.Source],
    reach: Callable[[settings.Settings], AbstractContextManager[connection.Connection | None]],
    report: Report | None = None,
) -> Iterator[Check]:
    """Yield every check in order; those that build on a failed one are left out. `report` gets what is asked."""
    try:
        found = read_settings()
    except EtlError as error:
        yield from failures("settings", error)
        return
    yield from database_checks(lambda: database_url(found))
    for each in [name] if name or len(found.sources) == 1 else found.sources:
        yield from _examine_source(partial(source, found, each), clock, partial(reach, found), report)


def _examine_source(
    judge: Callable[[], settings.Source], clock: Clock, reach: Reach, report: Report | None
) -> Iterator[Check]:
    try:
        source = judge()
    except EtlError as error:
        yield from failures("settings", error)
        return
    kind = "a token" if isinstance(source.credentials, Secret) else "the password grant"
    yield Check("settings", Standing.FINE, f"source {source.name!r} at {source.base_url}, signing in with {kind}")
    if source.is_in_the_clear:
        yield Check("settings", Standing.NOTE, "http sends the token in the clear: whoever is on the way can read it")
    if proxy := network_errors.proxy_of(source.base_url):
        yield Check("proxy", Standing.FINE, f"requests go through {proxy.place}, which {proxy.variable} names")
    findings: list[Finding] = []
    chapter = report.open(source.base_url) if report else None
    heard, overheard = (chapter.hear, chapter.overhear) if chapter else (None, None)
    try:
        with (
            guard_sign_in(reach, source, clock),
            Api(source, clock, heard=heard, overheard=overheard) as api,
        ):
            for check in examine_service(api):
                findings += [check.evidence] if isinstance(check.evidence, Finding) else []
                if chapter:
                    chapter.add_check(check)
                yield check
    except EtlError as error:
        yield from failures("service", error)
    keeper.keep(reach, source, findings, clock.now())
