"""Commands about what the jobs made: documents fetch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from etl import settings, terminal
from etl.cli import wiring
from etl.cli.program import json_option, main, source_option
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.outputs import Output, Recorded


class _Age(click.ParamType[timedelta]):
    """A duration as settings write it."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return settings.duration(str(value))
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


class _Moment(click.ParamType[datetime | timedelta]):
    """A day, or how long ago."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        try:
            return datetime.strptime(str(value), "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            return _Age().convert(value, param, ctx)


@main.group()
def documents() -> None:
    """Keep what the jobs made.

    AIMS360 deletes the outputs of a job with it.
    """


@documents.command()
@click.option("--to", metavar="FOLDER", help="Where: a folder, or an address such as s3://bucket/folder.")
@click.option(
    "--job", "jobs", metavar="ID", multiple=True, help="Of this job, or of the one that begins so; repeatable."
)
@click.option("--category", "categories", metavar="NAME", multiple=True, help="Of this (sub-)category; repeatable.")
@click.option("--account", "accounts", metavar="CODE", multiple=True, help="Of this account; repeatable.")
@click.option(
    "--since", metavar="WHEN", type=_Moment(), help="Of jobs made since a day (2026-03-01) or in the last 7d."
)
@click.option("--older-than", metavar="AGE", type=_Age(), help="Of jobs made longer ago than that, such as 2d.")
@click.option("--before-purge", metavar="AGE", type=_Age(), help="That will be gone within that time, such as 3d.")
@click.option("--max-size", metavar="MB", type=click.FloatRange(0, min_open=True), help="Leave larger ones there.")
@click.option("--dry-run", is_flag=True, help="Only say how many, and how large, by account.")
@source_option
@json_option
def fetch(
    to: str | None,
    jobs: tuple[str, ...],
    categories: tuple[str, ...],
    accounts: tuple[str, ...],
    since: datetime | timedelta | None,
    older_than: timedelta | None,
    before_purge: timedelta | None,
    max_size: float | None,
    dry_run: bool,
    source: str | None,
    as_json: bool,
) -> None:
    """Download outputs before they expire or are purged.

    Those that the mirror knows and AIMS360 still has, soonest gone first; what is kept already is not fetched again.
    Never writes over another file. What was kept is in bi.document_archive. Exit code 4 where some could not be had.
    """
    if to is None and not dry_run:
        raise ConfigError("--to is missing: name the folder, or the address, where the files shall be")
    found = wiring.read_settings()
    chosen = found.source(source)
    with wiring.database(found) as db:
        from etl import outputs

        now = wiring.clock().now()
        wish = outputs.Wish(
            jobs=jobs,
            categories=categories,
            accounts=accounts,
            since=now - since if isinstance(since, timedelta) else since,
            until=None if older_than is None else now - older_than,
            gone_within=before_purge,
        )
        source_id = outputs.source_id(db, chosen.name)
        wanted = outputs.choose(db, source_id, wish, now)
        if to is None or dry_run:
            _tell_what(wanted, outputs.recorded(db, source_id, wanted), as_json)
            return
        from etl import archive, stores
        from etl.downloads import Downloads

        store = stores.at(to, lambda: wiring.data_dir(found) / "parts")
        with terminal.progress(wiring.clock()) as watch, Downloads(chosen, wiring.clock()) as downloads:
            room = archive.Archive(db, (source_id, chosen.name), store, downloads, wiring.clock())
            fetched = room.fetch(wanted, None if max_size is None else round(max_size * 1e6), watch)
    terminal.say(terminal.as_json(fetched) if as_json else archive.text(fetched))
    if not wanted:
        terminal.say(_NOTHING, err=True)
    for failure in fetched.failures:
        which = "publish link" if failure.position is None else f"document {failure.position}, {failure.name}"
        terminal.say(f"job {failure.job_id}, {which}: {failure.reason}", err=True)
    for note in fetched.notes:
        terminal.say(f"note: {note}", err=True)
    if fetched.failures or fetched.not_tried:
        click.get_current_context().exit(4)


_NOTHING = (
    "note: no completed job that fits has an output that can still be had; what expired or was purged has none, "
    "whatever AIMS360_PURGE keeps of it"
)


def _tell_what(outputs: list[Output], recorded: Recorded, as_json: bool) -> None:
    """What a call would fetch."""
    from etl.outputs import shares_of

    left = [output for output in outputs if output.key not in recorded]
    shares = shares_of(left)
    kept = len(outputs) - len(left)
    if as_json:
        terminal.say(terminal.as_json({"kept_before": kept, "to_fetch": len(left), "accounts": shares}))
        return
    for share in shares:
        unsized = f", {share.unsized} of unknown size" if share.unsized else ""
        terminal.say(f"{share.account or 'no account'}: {share.outputs} outputs, {share.mb:,.1f} MB{unsized}")
    mb = sum(share.mb for share in shares)
    terminal.say(f"{len(left)} outputs, {mb:,.1f} MB, would be fetched; {kept} are recorded as kept before")
    if not outputs:
        terminal.say(_NOTHING, err=True)
