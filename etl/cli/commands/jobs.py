"""Commands about single jobs: jobs list, show, wait, rerun, export."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl import console
from etl.cli import context, options
from etl.cli.main import main
from etl.cli.options import FILE, WITH_DEFAULTS, as_duration, insecure_http_option, json_option, source_option
from etl.config import settings
from etl.errors import ConfigError, EtlError

if TYPE_CHECKING:
    from etl.client.client import Api
    from etl.jobs.live import Live
    from etl.jobs.mirror_query import Found, Held
    from etl.jobs.wait import Waited
    from etl.models import JobRow

_FAILED, _TIMED_OUT = 4, 5
_source_option = source_option("Which source, where ids alone don't tell.")
_job_argument = click.argument("job_id", metavar="ID")
_timeout_option = click.option(
    "--timeout",
    metavar="DURATION",
    default="30m",
    callback=as_duration,
    help="How long to wait at most, such as 90s or 2h; 0 for ever.",
)


@main.group()
def jobs() -> None:
    """Look at single jobs, wait for them, run them again.

    An ID may be shortened to its beginning, as long as only one job of the mirror has it.
    """


@jobs.command("list", context_settings=WITH_DEFAULTS)
@click.option("--status", metavar="STATUS", help="Jobs in that state, such as Failed.")
@click.option("--category", metavar="NAME", help="Jobs of that category or sub-category.")
@click.option("--account", metavar="CODE", help="Jobs of that account.")
@click.option("--since", metavar="WHEN", help="Jobs created since a day (UTC), or so long ago, such as 12h or 2d.")
@click.option("--limit", metavar="NUMBER", type=click.IntRange(1, 100_000), default=20, help="So many at most.")
@source_option("Jobs of that source.")
@json_option
def list_jobs(limit: int, as_json: bool, since: str | None, **wanted: Any) -> None:
    """List the newest jobs of the mirror.

    A role that reads the schema bi is enough.
    """
    from etl.jobs import formatting, mirror_query

    now = context.clock().now()
    moment = None if since is None else options.since(since, now)
    with mirror_query.mirror(context.database_url(context.read_settings())) as db:
        found = mirror_query.listed(db, mirror_query.Wanted(**wanted, since=moment), limit, now)
    if as_json:
        console.say(console.as_json(found.jobs))
    elif found.jobs:
        console.say(formatting.listing(found.jobs, console.width()))
    else:
        console.say("no job of the mirror is like that" if any(wanted.values()) or since else "the mirror has no jobs")
    if found.are_more:
        console.say(f"these are the newest {limit}; there are more: --limit shows them", err=True)


@jobs.command()
@_job_argument
@_source_option
@insecure_http_option
@click.option("--live", is_flag=True, help="Ask the source now, and say in what the mirror differs.")
@click.option("--links", is_flag=True, help="Print the links to its outputs too; whoever has one may have the file.")
@json_option
def show(job_id: str, source: str | None, live: bool, links: bool, as_json: bool) -> None:
    """Show one job with its documents and history.

    ID is the job's, or its beginning. From the mirror, for which a role that reads the schema bi is enough; links want
    a right of their own. If the source's row could not be read and waits in etl.rejects, it says why, since when, and
    when the source is asked for it again, to a role that reads that table.
    """
    if live and links:
        raise ConfigError("--links are those of the mirror, for roles that were granted them: not with --live")
    if live:
        _show_live(job_id, source, as_json)
        return
    from etl.jobs import formatting, mirror_query

    found, held = _held(job_id, source, links)
    console.say(console.as_json(mirror_query.as_value(found, held)) if as_json else formatting.card(found, held))


@jobs.command(context_settings=WITH_DEFAULTS)
@_job_argument
@_source_option
@insecure_http_option
@_timeout_option
@json_option
def wait(job_id: str, source: str | None, timeout: timedelta, as_json: bool) -> None:
    """Wait until a job has ended.

    ID is the job's, or its beginning. The source is asked less and less often, every 10 s in the end; when it
    doesn't answer, waiting goes on. Exit code 0: completed, 4: failed, 5: timed out. The mirror follows at once.
    """
    target = _Target.find(job_id, source)
    with target.service() as api:
        waited = target.wait(api, timeout)
        followed = target.follow(api, waited)
    _tell_the_end(target, waited, followed, as_json, {})


@jobs.command(context_settings=WITH_DEFAULTS)
@_job_argument
@_source_option
@insecure_http_option
@click.option("--yes", is_flag=True, help="Don't ask; needed where nobody sits at a terminal.")
@click.option("--wait", "wait_too", is_flag=True, help="Then wait until it has ended, as `jobs wait` does.")
@_timeout_option
@json_option
def rerun(job_id: str, source: str | None, yes: bool, wait_too: bool, timeout: timedelta, as_json: bool) -> None:
    """Run a job again; its outputs are replaced.

    ID is the job's, or its beginning. It is looked at first: a job that may not be run again, or runs already, ends
    this with exit code 2, and nothing is sent. What is sent is sent once; where no answer comes, the job itself is
    asked whether it was. The mirror follows at once.
    """
    from etl.jobs import rerun as room

    is_asked = not yes and console.is_terminal(sys.stdin) and console.is_terminal(sys.stderr)
    if not (yes or is_asked):
        raise ConfigError("nobody can be asked here whether the job is to be run again: add --yes")
    target = _Target.find(job_id, source)
    with target.service() as api:
        before = room.ready(api, target.clock, target.job_id)
        if is_asked:
            click.confirm(_question(before), abort=True, err=True)
            before = room.ready(api, target.clock, target.job_id)  # it may have changed while somebody thought
        try:
            sent = room.send(api, target.clock, before)
        except KeyboardInterrupt:
            raise EtlError(_unsure(target.job_id, room.Fate.UNKNOWN, "stopped by a signal")) from None
        if sent.fate is not room.Fate.ACCEPTED:
            raise EtlError(_unsure(target.job_id, sent.fate, sent.instead))
        if not as_json:
            console.say(f"job {target.job_id} was accepted" + (" (it shows; no answer came)" if sent.instead else ""))
        followed = target.follow(api)
        if wait_too:
            waited = target.wait(api, timeout, before.row)
            followed = target.follow(api, waited)
    if wait_too:
        _tell_the_end(target, waited, followed, as_json, {"rerun": sent.fate})
    elif as_json:
        console.say(console.as_json({**target.value(), "rerun": sent.fate, "mirror": followed}))
    else:
        console.say(followed)


@jobs.command()
@_job_argument
@_source_option
@click.option("--output", metavar="FILE", type=FILE, help="Into a file, all or nothing.")
@click.option("--links", is_flag=True, help="With the links to its outputs; whoever has one may have the file.")
def export(job_id: str, source: str | None, output: Path | None, links: bool) -> None:
    """Write one job with its documents and history as JSON.

    ID is the job's, or its beginning. From the mirror; of a job that was purged what is left of it.
    """
    from etl.jobs import mirror_query

    text = console.as_json(mirror_query.as_value(*_held(job_id, source, links)))
    if output is None:
        console.say(text)
    else:
        from etl import atomic_files

        atomic_files.save(output, f"{text}\n".encode())


def _held(given: str, source: str | None, links: bool) -> tuple[Found, Held]:
    """A job by its id or the beginning of it, and what the mirror holds of it."""
    from etl.jobs import mirror_query

    with mirror_query.mirror(
        context.database_url(context.read_settings()), mirror_query.LINKS_RIGHTS if links else ""
    ) as db:
        found = mirror_query.find(db, given, source)
        if found is None:
            raise mirror_query.unknown(given)
        return found, mirror_query.held(db, found, links)


def _show_live(given: str, source: str | None, as_json: bool) -> None:
    from etl.jobs import formatting
    from etl.jobs import live as there

    target = _Target.find(given, source)
    with target.service() as api:
        seen = there.look(api, target.job_id)
    held = target.held()
    if seen is None:
        is_here = "; the mirror still holds it: without --live it is shown from there" if held and held.job else ""
        raise EtlError(there.gone(target.job_id, None, target.clock.now()) + is_here)
    differences = there.differences(seen, held.job, held.documents) if held and held.job else None
    if as_json:
        value = {**target.value(), "answered_at": seen.answered_at, "job": there.as_shown(seen)}
        value |= {"documents": there.documents(seen), "differences": differences}
        console.say(console.as_json(value))
    else:
        console.say(formatting.card_of(seen, target.source.name))
        console.say(formatting.compared(seen, differences))


class _Target:
    """One job of one source, as a command was told it."""

    def __init__(self, found: settings.Settings, source: settings.Source, job_id: str) -> None:
        self._settings = found
        self.source = source
        self.job_id = job_id
        self.clock = context.clock()
        self._log = context.log_of(click.get_current_context().meta, source.name)
        self._api = context.service(source, self._log, self.clock)

    @classmethod
    def find(cls, given: str, source: str | None) -> _Target:
        """The job that the mirror knows by that id or its beginning, else one to ask the source for."""
        from etl.jobs import mirror_query

        found = context.read_settings()
        with mirror_query.mirror(context.database_url(found)) as db:
            known = mirror_query.find(db, given, source)
        if known is not None and known.job_id.startswith(mirror_query.NAMELESS):
            raise ConfigError(
                f"{known.job_id} is a row without a readable jobID, so the source can't be asked for it; "
                "`aims360-etl jobs show` without --live says why it could not be read"
            )
        if known is None:
            return cls(found, context.source(found, source), mirror_query.whole(given))
        return cls(found, context.source(found, known.source), known.job_id)

    def service(self) -> AbstractContextManager[Api]:
        """The client of its source."""
        return context.guarded(self._settings, self.source, self._api, self.clock)

    def value(self) -> dict[str, Any]:
        """For JSON."""
        return {"source": self.source.name, "job_id": self.job_id}

    def held(self) -> Held | None:
        """What the mirror holds of it."""
        from etl.jobs import mirror_query

        with mirror_query.mirror(context.database_url(self._settings)) as db:
            known = mirror_query.find(db, self.job_id, self.source.name)
            return mirror_query.held(db, known) if known and known.job_id == self.job_id else None

    def wait(self, api: Api, timeout: timedelta, known: JobRow | None = None) -> Waited:
        """Until it has ended or the time is up, with a bar on a terminal, and lines elsewhere."""
        from etl.jobs.wait import Ears, Wish
        from etl.jobs.wait import wait as wait_for_job

        with _watched(self.job_id) as seen:
            ears = Ears(seen, self._log.notice)
            return wait_for_job(api, self.job_id, self.clock, Wish(timeout.total_seconds() or math.inf, known), ears)

    def follow(self, api: Api, waited: Waited | None = None) -> str:
        """Brings the mirror up to date about it, if it can be: what the job did doesn't depend on that."""
        if waited is not None and waited.is_silent:
            return "the source doesn't answer, so the mirror stays as it is"
        try:
            with context.database(self._settings) as db:
                from etl.jobs.refresh import follow

                return follow(self.source, api, db, self.clock, self.job_id)
        except EtlError as error:
            return f"the mirror doesn't follow now, the next sync brings it: {error}"


@contextmanager
def _watched(job_id: str) -> Iterator[Callable[[Live], None]]:
    """Shows how far a job is: a bar on a terminal, elsewhere a line whenever that has changed."""
    from etl.jobs import formatting

    if not console.is_terminal(sys.stderr):
        said = ""

        def tell(seen: Live) -> None:
            nonlocal said
            if (now := formatting.progress(seen)) != said:
                said = now
                console.say(f"{job_id}: {now}", err=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(job_id, total=100)

        def draw(seen: Live) -> None:
            description = f"{job_id[:8]} {formatting.progress(seen)}"
            bars.update(bar, completed=seen.row.percent_completed or 0, description=description)

        yield draw


def _tell_the_end(target: _Target, waited: Waited, followed: str, as_json: bool, also: dict[str, Any]) -> None:
    """How waiting ended, and exit code 4 or 5 where that isn't well."""
    from etl.jobs import live as there
    from etl.jobs.wait import Outcome

    if as_json:
        job = None if waited.last is None else there.as_shown(waited.last)
        ended = {"outcome": waited.outcome, "seconds": round(waited.seconds, 3), "job": job, "mirror": followed}
        console.say(console.as_json({**target.value(), **also, **ended}))
    else:
        console.say(_end(target.job_id, waited))
        console.say(followed)
    code = {Outcome.FAILED: _FAILED, Outcome.TIMED_OUT: _TIMED_OUT}.get(waited.outcome)
    if code:
        click.get_current_context().exit(code)


def _end(job_id: str, waited: Waited) -> str:
    from etl.client import payload
    from etl.jobs import formatting
    from etl.jobs.wait import Outcome

    after = f"after {waited.seconds:.0f} s"
    if waited.outcome == Outcome.TIMED_OUT:
        state = f"it is {formatting.progress(waited.last)}" if waited.last else "the source never answered"
        return f"job {job_id} has not ended {after}: {state}; wait again, it goes on by itself"
    assert waited.last is not None
    row = waited.last.row
    if waited.outcome == Outcome.COMPLETED:
        return f"job {job_id} completed, seen {after}"
    said = payload.harmless((row.job_status_text or "").strip().partition("\n")[0])
    how = "failed" if row.job_status == "Failed" else f"ended as {payload.harmless(row.job_status or 'nothing')}"
    return f"job {job_id} {how}, seen {after}" + (f": {said}" if said else "")


def _question(before: Live) -> str:
    from etl.text import shown

    row = before.row
    what = shown(row.job_description or row.sub_category_name or "a job")
    return f"Run {row.job_id} again ({what}, account {row.account_code}, {row.job_status})? Its outputs are replaced"


def _unsure(job_id: str, fate: str, instead: str | None) -> str:
    from etl.jobs.rerun import Fate

    look = f"`aims360-etl jobs show {job_id} --live`"
    if fate == Fate.NOT_ACCEPTED:
        return (
            f"job {job_id} was not accepted, as far as the source shows: it is as it was, and no answer came "
            f"({instead}); look with {look} before you send it again"
        )
    return (
        f"it can't be told whether the source runs job {job_id} again: no answer came ({instead}), and the job itself "
        f"doesn't tell; it was not sent a second time. {look} shows it"
    )
