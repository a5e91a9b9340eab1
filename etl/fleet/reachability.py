"""Whether each source can be reached: it is signed in to, and asked for one job, side by side with the others."""

import ssl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import timedelta

import psycopg

from etl.client import transport
from etl.client.client import Api
from etl.config.settings import Source
from etl.errors import CredentialsRefused, EtlError
from etl.models import Clock
from etl.pipeline.doctor.service import newest_job
from etl.postgres.connection import Connection
from etl.state import sign_in, source_state
from etl.state.source_state import State

AT_A_TIME = 16
TIME_LIMIT = timedelta(seconds=30)
_TRIES = 2  # a source that is throttled or starting up is asked once more


def each(
    sources: Iterable[Source], db: Connection | None, clock: Clock, within: timedelta = TIME_LIMIT
) -> Iterator[tuple[Source, EtlError | None]]:
    """Each source as its answer comes, and what is wrong with it: at the latest that it took longer than `within`.

    `db`: knows whose credentials were refused a short while ago: those sources aren't asked. Raises ConfigError for
    certificates that can't be read: that is wrong for all of them.
    """
    wanted: list[Source] = []
    states: dict[str, State] = {}
    for source in sources:
        try:
            if db is not None and (state := source_state.find(db, source.name)) is not None:
                states[source.name] = state
                sign_in.check_sign_in(db, state, source, clock.now())
        except CredentialsRefused as refused:
            yield source, refused
            continue
        except psycopg.Error:  # it may not be read, say
            db = None
        wanted.append(source)
    vouched = transport.trust("https://") if any(each.base_url.startswith("https") for each in wanted) else None
    with ThreadPoolExecutor(AT_A_TIME, "contact") as pool:
        asked = {pool.submit(_ask, source, clock, within, vouched): source for source in wanted}
        try:
            for answered in as_completed(asked):
                source, error = asked[answered], answered.result()
                if isinstance(error, CredentialsRefused) and db is not None and source.name in states:
                    with suppress(psycopg.Error):
                        sign_in.remember_refusal(db, states[source.name], source, clock.now())
                yield source, error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ask(source: Source, clock: Clock, within: timedelta, vouched: ssl.SSLContext | None) -> EtlError | None:
    """What stands between us and one job of a source, None where it came."""
    way = None
    try:
        way = transport.Line(
            source.base_url, 1, clock.monotonic, vouched if source.base_url.startswith("https") else None
        )
        with Api(source, clock, line=way) as api:
            api.begin_anew(within.total_seconds())
            newest_job(api, attempts=_TRIES)
    except EtlError as error:
        return error
    finally:
        if way is not None:
            way.hang_up()
    return None
