"""Commands about what the jobs made: documents fetch."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from etl import console
from etl.cli import context, options
from etl.cli.main import main
from etl.cli.options import as_duration, insecure_http_option, json_option, log_options, source_option
from etl.errors import ConfigError
from etl.text import shown

if TYPE_CHECKING:
    from etl.jobs.documents.selection import Output, Recorded
    from etl.postgres.connection import Connection


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
@click.option("--since", metavar="WHEN", help="Of jobs made since a day (UTC), or so long ago, such as 12h or 2d.")
@click.option("--older-than", metavar="AGE", callback=as_duration, help="Of jobs made before that, such as 2d.")
@click.option("--before-purge", metavar="AGE", callback=as_duration, help="That will be gone within that, such as 3d.")
@click.option("--max-size", metavar="MB", type=click.FloatRange(0, min_open=True), help="Leave larger ones there.")
@click.option("--dry-run", is_flag=True, help="Only say how many, and how large, by account.")
@source_option()
@insecure_http_option
@log_options
@json_option
@click.pass_context
def fetch(
    ctx: click.Context,
    /,
    to: str | None,
    jobs: tuple[str, ...],
    categories: tuple[str, ...],
    accounts: tuple[str, ...],
    since: str | None,
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
    found, clock = context.read_settings(), context.clock()
    now = clock.now()
    made_since = None if since is None else options.since(since, now)
    chosen = context.source(found, source)
    log = context.log_of(ctx.meta, chosen.name)
    with context.database(found) as db:
        from etl.jobs.documents import selection

        wish = selection.Wish(
            jobs=tuple(_whole_id(db, beginning, chosen.name) for beginning in jobs),
            categories=categories,
            accounts=accounts,
            since=made_since,
            until=None if older_than is None else now - older_than,
            gone_within=before_purge,
        )
        source_id = selection.source_id(db, chosen.name)
        if to is None or dry_run:
            wanted = selection.choose(db, source_id, wish, now)
            _tell_what(wanted, selection.recorded(db, source_id, wanted), as_json)
            return
        from etl.jobs.documents import archive, stores
        from etl.postgres import locks
        from etl.state.sign_in import guard_sign_in

        store = stores.at(to, lambda: context.data_dir(found) / "parts")
        with (
            locks.fetching(db, chosen.name, source_id),
            guard_sign_in(lambda: nullcontext(db), chosen, clock) as remember_refusal,
            console.progress(clock, log.progress, log.shows_bars(sys.stderr)) as watch,
            context.downloads(chosen, log, clock) as downloads,
        ):
            wanted = selection.choose(db, source_id, wish, now)
            room = archive.Archive(db, (source_id, chosen.name), store, downloads, clock)
            fetched = room.fetch(wanted, None if max_size is None else round(max_size * 1e6), watch)
            if downloads.are_credentials_refused:
                remember_refusal()
    console.say(console.as_json(fetched) if as_json else archive.text(fetched))
    if not wanted:
        console.say(_NOTHING, err=True)
    for line in archive.reasons(fetched.failures):
        console.say(shown(line), err=True)
    for note in fetched.notes:
        console.say(shown(f"note: {note}"), err=True)
    if fetched.failures or fetched.not_tried:
        ctx.exit(4)


_NOTHING = (
    "note: no completed job that fits has an output that can still be had; what expired or was purged has none, "
    "whatever AIMS360_PURGE keeps of it"
)


def _whole_id(db: Connection, beginning: str, source: str) -> str:
    from etl.jobs import mirror_query

    if (found := mirror_query.find(db, beginning, source)) is None:
        raise ConfigError(f"--job: the mirror holds no job of this source that begins with {beginning!r}")
    return found.job_id


def _tell_what(outputs: list[Output], recorded: Recorded, as_json: bool) -> None:
    """What a call would fetch."""
    from etl.jobs.documents.selection import shares_of

    left = [output for output in outputs if output.key not in recorded]
    shares = shares_of(left)
    kept = len(outputs) - len(left)
    if as_json:
        console.say(console.as_json({"kept_before": kept, "to_fetch": len(left), "accounts": shares}))
        return
    for share in shares:
        unsized = f", {share.unsized} of unknown size" if share.unsized else ""
        said = f"{share.account or 'no account'}: {share.outputs} outputs, {share.mb:,.1f} MB{unsized}"
        console.say(shown(said))
    mb = sum(share.mb for share in shares)
    console.say(f"{len(left)} outputs, {mb:,.1f} MB, would be fetched; {kept} are recorded as kept before")
    if not outputs:
        console.say(_NOTHING, err=True)
