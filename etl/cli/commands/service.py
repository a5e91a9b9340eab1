"""`sync --every`: the service, which tells systemd and its log what it does, and outlives whatever fails in a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from etl import console, error_report
from etl.cli import context, metrics_options
from etl.cli.context import watching
from etl.config import settings
from etl.errors import ConfigError, DatabaseError, EtlError, Locked, SignInFailed
from etl.fleet import interval_loop
from etl.fleet.interval_loop import Ending
from etl.fleet.sd_notify import Systemd
from etl.reporting.metrics.http_server import Heartbeat

if TYPE_CHECKING:
    from etl.cli.metrics_options import Ended
    from etl.client.client import Api
    from etl.event_log import Log
    from etl.models import Progress, Run

_A_SECOND = timedelta(seconds=1)
# A sign of life comes each second while the service waits, and with each page while a run reads; the longest statements
# take minutes. deploy/systemd/aims360-etl.service has the same bound (WatchdogSec).
_HUNG_AFTER = 900.0  # seconds


def serve(name: str | None, every: timedelta, log: Log, as_json: bool, wish: metrics_options.Wish) -> None:
    """Runs a sync of the source `every` so often, until it is stopped. Raises ConfigError where none could succeed."""
    if every < _A_SECOND:
        raise ConfigError("--every: a second at least")
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        found = _Service(name, log, as_json, wish, stack)
        found.ready(every)  # one that can't begin hasn't stopped either
        stack.callback(found.stopping)
        interval_loop.serve(found.once, every, found.clock, found.waits, found.alive)


class _Service:
    """What stays between two runs: the client with its token and connections, as long as the settings are the same."""

    def __init__(self, name: str | None, log: Log, as_json: bool, wish: metrics_options.Wish, stack: ExitStack) -> None:
        self._name, self._log, self._as_json = name, log, as_json
        self._systemd = Systemd(os.environ)
        self.clock = context.clock(self.alive)
        self._heartbeat = Heartbeat(self.clock.monotonic, _HUNG_AFTER)
        self._wish, self._metrics = wish, metrics_options.kept(wish, self.clock, log)
        self._called = name or ""
        self._source: settings.Source | None = None
        self._api: Api | None = None
        stack.callback(self._close)

    def ready(self, every: timedelta) -> None:
        """Says so once the settings are right and the database, if it is up, is at this program's revision."""
        found = context.read_settings()
        chosen = context.source(found, self._name)
        self._called = chosen.name
        metrics_options.begins(self._metrics, chosen.name, self._wish, self._heartbeat)
        with suppress(DatabaseError), context.database(found) as db:  # one that is down comes back, and the run says so
            metrics_options.stands(self._metrics, chosen.name, db)
        self._systemd.ready()
        seconds = every.total_seconds()
        self._log.service(f"a sync of {chosen.name!r} every {seconds:g} s, until SIGTERM", every=seconds)

    def once(self) -> Ending:
        """One run. Settings are read anew: a secret in a file may have been renewed."""
        self.alive()
        try:
            with metrics_options.the_next(self._metrics, self._called) as ended:
                found = context.read_settings()
                run = self._sync(found, context.source(found, self._name), ended)
        except Locked as held:
            self._log.notice(str(held))
            return Ending.HELD
        except Exception as error:  # noqa: BLE001 - the next run may do better, and the log has said what happened
            self._log.failed(error)
            self._systemd.doing(f"the last run failed: {error_report.line(error)}")
            return Ending.TURNED_AWAY if isinstance(error, SignInFailed) else Ending.FAILED
        self._log.ended(run)
        self._log.notes(run)
        self._systemd.doing(console.summary(run))
        if self._as_json:
            self._print(run)
        return Ending.DONE

    def waits(self, seconds: float, failed: int) -> None:
        """How long it is until the next run, where that isn't as usual."""
        if failed > 1:
            self._log.service(f"{failed} runs in a row failed; the next begins in {seconds:.0f} s", failed=failed)

    def alive(self) -> None:
        """Give a sign of life, to systemd's watchdog and to probes."""
        self._systemd.alive(self.clock.monotonic())
        self._heartbeat.beat()

    def stopping(self) -> None:
        """The last word."""
        self._systemd.stopping()
        self._log.service("stopped; the next start goes on from here")

    def _print(self, run: Run) -> None:
        try:
            console.say(console.as_json(run))
        except EtlError as error:  # no failure of the run: the next begins when it would
            self._log.failed(error)

    def _sync(self, found: settings.Settings, chosen: settings.Source, ended: Ended) -> Run:
        from etl.pipeline.sync import sync

        with context.database(found) as db, watching(self._log, self.clock) as watch:

            def watches(progress: Progress) -> None:
                self.alive()
                watch(progress)

            run = sync(chosen, lambda: self._client(chosen), db, self.clock, watch=watches)
            ended(run, db)
            return run

    @contextmanager
    def _client(self, chosen: settings.Source) -> Iterator[Api]:
        if self._api is None or self._source != chosen:
            self._close()
            self._source, self._api = chosen, context.service(chosen, self._log, self.clock)()
        yield self._api

    def _close(self) -> None:
        if self._api is not None:
            self._api.close()
        self._api = None
