"""What happens, a line an event: for people on a terminal, JSON where a program reads it. Goes to stderr.

Each line of a run carries the run's number. A source in trouble doesn't flood it: of events of one kind only so many
are told in a minute, and then how many were not.
"""

from collections.abc import Callable
from copy import copy
from typing import Self, TextIO

from etl import console, error_report
from etl.errors import EtlError
from etl.models import Clock, Counts, Exchange, Progress, Run, Verdict, Watch
from etl.text import rows_that, shown

FORMATS = ("auto", "human", "json")
_A_MINUTE = 60.0  # seconds, of a clock that nobody sets
_AT_MOST = 10  # events of one kind in a minute
_UNLIMITED = frozenset({"run", "failed", "note", "request"})  # each of them is worth its line; requests are asked for
_COUNTED = Counts.__struct_fields__

Fields = dict[str, object]


class Log:
    """Tells of a source's runs. `is_stamped`: people see the time of each line, as in a service's log.

    `as_set` gives a failure's words with settings called as they were set.
    """

    def __init__(
        self,
        form: str,
        clock: Clock,
        source: str = "",
        *,
        is_stamped: bool = False,
        is_verbose: bool = False,
        as_set: Callable[[str], str] = str,
    ) -> None:
        self._as_json, self._clock, self._source = form == "json", clock, source
        self._is_stamped, self.is_verbose, self._as_set = is_stamped, is_verbose, as_set
        self._is_named = False
        self._run_id: int | None = None
        self._since: dict[str, tuple[float, int]] = {}  # by kind of event: the minute's beginning, and how many

    def of(self, source: str) -> Self:
        """The same of one source among many: each line says which."""
        log = copy(self)
        log._source, log._is_named, log._run_id, log._since = source, True, None, {}
        return log

    def and_then(self, watch: Watch) -> Watch:
        """Watches too, to know which run is under way."""

        def watches(progress: Progress) -> None:
            self._run_id = progress.run_id
            watch(progress)

        return watches

    def shows_bars(self, stream: TextIO | None) -> bool:
        """Whether somebody looks at it who would rather see bars than lines."""
        return not self._as_json and not self._is_stamped and console.is_terminal(stream)

    def progress(self, progress: Progress, seconds: float) -> None:
        """How far the run is; how often, is for the caller to say."""
        if progress.done:
            of = f" of {'' if progress.is_exact else 'about '}{progress.of:,}" if progress.of else ""
            said = f"{progress.done:,}{of} {progress.what}, {seconds:.0f} s"
            self._tell("info", "progress", said, {"what": progress.what, "done": progress.done, "of": progress.of})

    def notice(self, said: str) -> None:
        """Something that somebody may wonder about, such as a wait for the source."""
        self._tell("warning", "waiting", said)

    def heard(self, exchange: Exchange) -> None:
        """A request and its answer: only where they are wished for, `is_verbose`."""
        answer = exchange.status or exchange.failed or "no answer"
        said = f"{exchange.method} {exchange.address}: {answer}, {exchange.seconds:.3f} s"
        self._tell("debug", "request", said, {"status": exchange.status, "seconds": exchange.seconds})

    def notes(self, run: Run) -> None:
        """What is worth knowing of a run that succeeded."""
        self._run_id = run.run_id
        for note in run.notes:
            self._tell("warning", "note", f"note: {note}")
        if run.counts.rejected:
            said = rows_that(run.counts.rejected, "could not be read; they wait, with the reason, in etl.rejects")
            self._tell("warning", "rejects", said, {"rejected": run.counts.rejected})

    def ended(self, run: Run) -> None:
        """A run that came to its end, in a line with its counts."""
        self._run_id = run.run_id
        level = "info" if run.verdict in (None, Verdict.COMPLETE) else "warning"
        counts = {name: count for name in _COUNTED if (count := getattr(run.counts, name))}
        told = {"kind": run.kind, "verdict": run.verdict, "seconds": run.seconds, "requests": run.requests}
        self._tell(level, "run", console.summary(run), {**told, **counts, "complete_through": run.complete_through})

    def failed(self, error: BaseException) -> None:
        """A failure, in a line that says what, where and in which run."""
        code = error.exit_code if isinstance(error, EtlError) else 1
        said = self._as_set(error_report.line(error))
        self._tell("error", "failed", said, {"exit_code": code}, prefix="aims360-etl: ")

    def service(self, said: str, **fields: object) -> None:
        """What becomes of the service itself: begins, waits, ends."""
        self._run_id = None
        self._tell("info", "service", said, fields)

    def _tell(self, level: str, event: str, said: str, fields: Fields | None = None, prefix: str = "") -> None:
        if event not in _UNLIMITED and not self._may_tell(event):
            return
        said = said.encode(errors="backslashreplace").decode()  # a path may hold what is no text
        if self._as_json:
            known = {"source": self._source or None, "run_id": self._run_id, **(fields or {})}
            line = {"time": self._clock.now(), "level": level, "event": event, "message": said}
            line |= {name: value for name, value in known.items() if value is not None}
            console.say(_json(line), err=True)
            return
        run = f" (run {self._run_id})" if self._is_stamped and self._run_id and "run " not in said else ""
        stamp = f"{self._clock.now():%Y-%m-%d %H:%M:%S} " if self._is_stamped else prefix
        name = f"{self._source}: "
        stamp += shown(name) if self._is_named and not said.startswith(name) else ""
        for line_of_many in said.splitlines():
            console.say(f"{stamp}{shown(line_of_many)}{run}", err=True)

    def _may_tell(self, event: str) -> bool:
        now = self._clock.monotonic()
        began, told = self._since.get(event, (now, 0))
        if now - began >= _A_MINUTE:
            began, told, silenced = now, 0, told - _AT_MOST
            if silenced > 0:
                self._since[event] = (began, 0)
                self._tell("warning", "silenced", f"{silenced} more like the last were not told", {"of": event})
        self._since[event] = (began, told + 1)
        return told < _AT_MOST


def chosen(form: str, is_terminal: bool) -> str:
    """`human` or `json`: what was asked for, else what suits whoever reads."""
    return form if form != "auto" else "human" if is_terminal else "json"


def _json(line: dict[str, object]) -> str:
    import msgspec

    return msgspec.json.encode(line).decode()
