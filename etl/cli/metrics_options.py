"""`--metrics-file`, `--metrics-port`: commands whose runs Prometheus hears of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from etl.cli import context
from etl.cli.options import FILE
from etl.errors import ConfigError
from etl.models import Clock, Run

if TYPE_CHECKING:
    from etl.event_log import Log
    from etl.postgres.connection import Connection
    from etl.reporting.metrics.exporter import Metrics
    from etl.reporting.metrics.http_server import Heartbeat

Ended = Callable[[Run, "Connection"], None]


class Wish(NamedTuple):
    """How a service is asked to tell of its runs: nothing where both `file` and `port` are None."""

    file: Path | None
    port: int | None
    host: str


_HOST = "127.0.0.1"

metrics_file_option = click.option(
    "--metrics-file", metavar="FILE", type=FILE, help="Tell Prometheus of it, by a file for node_exporter."
)


def metrics_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that may be a service: metrics as a file, or asked for over HTTP."""
    at_port = port_options("With --every: answer Prometheus' scrapes, and probes (/healthz), at this port.")
    return metrics_file_option(at_port(command))


def port_options(said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Metrics that are asked for over HTTP: at which port, of which address."""
    port = click.option("--metrics-port", metavar="PORT", type=click.IntRange(1, 65_535), help=said)
    host = click.option(
        "--metrics-host",
        metavar="HOST",
        default=_HOST,
        show_default=True,
        help="Where it is reached; 0.0.0.0: from everywhere.",
    )
    return lambda command: port(host(command))


def judge(every: object, port: int | None) -> None:
    """Raises ConfigError for a port that nobody would answer at."""
    if port is not None and every is None:
        raise ConfigError("--metrics-port goes with --every: a single run is over before it is scraped; --metrics-file")


@contextmanager
def run(source: str, file: Path | None, log: Log) -> Iterator[Ended]:
    """A single run of a source, told of at its end; what is yielded takes its result and a connection."""
    with the_next(kept(Wish(file, None, _HOST), context.clock(), log), source) as ended:
        yield ended


@contextmanager
def the_next(metrics: Metrics | None, source: str) -> Iterator[Ended]:
    """The same as a part of a service; where nobody asked for metrics, nothing is told."""
    if metrics is None:
        yield lambda _run, _db: None
        return
    with metrics.run(source) as ended:
        yield ended


def kept(wish: Wish, clock: Clock, log: Log) -> Metrics | None:
    """The metrics of this process, where they are wished for."""
    if wish.file is None and wish.port is None:
        return None
    from etl.reporting.metrics.exporter import Metrics

    return Metrics(clock, wish.file, log.notice)


def begins(metrics: Metrics | None, source: str, wish: Wish, heartbeat: Heartbeat) -> None:
    """A service begins: its source is told of, and its port answers. Raises ConfigError where it can't be had."""
    if metrics is not None:
        metrics.expect(source)
        if wish.port is not None:
            from etl.reporting.metrics.http_server import serve

            serve(metrics, heartbeat, wish.port, wish.host)


def stands(metrics: Metrics | None, source: str, db: Connection) -> None:
    """How the source stands before the first run: after a restart the lag is there at once."""
    if metrics is not None:
        from etl.reporting.metrics.exporter import read

        metrics.stands(source, read(db, source))
