"""Rounds of episodes, strategy by strategy, in a database of their own; and the table at their end."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import count

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from etl.errors import EtlError
from etl.models import Clock
from etl.postgres import connection, migrations
from etl.postgres.tables import definitions, metadata, queue
from etl.testing.chaos import process_kills
from etl.testing.chaos.episode import play
from etl.testing.chaos.scenarios import BY_NAME, STRATEGIES
from etl.testing.chaos.source_profile import Tally

DATABASE = "prove"
EMPTY = sql.SQL("TRUNCATE {} RESTART IDENTITY").format(
    sql.SQL(", ").join(
        sql.Identifier(table.schema or "", table.name)
        for table in metadata.sorted_tables
        if table not in (definitions, queue)
    )
)
_HEADINGS = {"compared": "rows compared", "twice": "pages fetched twice", "broken": "laws broken"}
_PAGINGS = {"key": "by key", "key_unordered": "by key, unordered", "time": "by time", "skip": "by overlapping pages"}
_ENOUGH = 5  # sentences on an episode that went wrong


@dataclass(frozen=True, slots=True)
class Finding:
    """An episode that went wrong: how to play it again, and what was wrong first."""

    strategy: str
    episode: int
    said: list[str]


@dataclass(slots=True)
class Proof:
    """What the episodes of each strategy came to. `seed` repeats them."""

    seed: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    stopped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing was wrong."""
        return not self.findings

    def add(self, strategy: str, episode: int, tally: Tally, said: list[str]) -> None:
        """An episode has ended."""
        total = self.tallies.setdefault(strategy, Tally())
        total += tally
        if tally.wrong or said:
            self.findings.append(Finding(strategy, episode, said[:_ENOUGH]))


def prove(server_url: str, minutes: float, seed: int, clock: Clock, tell: Callable[[str], None]) -> Proof:
    """At least a round over all strategies, and on until the time is over; Ctrl-C ends it with what there is."""
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it tells of each connection that we break
    url = fresh(server_url)
    proof = Proof(seed)
    until = clock.monotonic() + 60 * minutes
    try:
        for episode, strategy in _in_turn():
            if episode and clock.monotonic() >= until:
                break
            tell(f"round {episode + 1}: {strategy}")
            proof.add(strategy, episode, *_one_of(url, strategy, f"{seed}/{episode}/{strategy}"))
    except KeyboardInterrupt:
        proof.stopped = True
    return proof


def _one_of(url: str, strategy: str, seed: str) -> tuple[Tally, list[str]]:
    try:
        return one(url, strategy, seed)
    except Exception as error:
        raise EtlError(f"the episode {seed} came to nothing: {type(error).__name__}: {error}") from error


def one(url: str, strategy: str, seed: str) -> tuple[Tally, list[str]]:
    """One episode on an emptied mirror: what it counted, and what was wrong."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(EMPTY)
    if strategy == process_kills.NAME:
        killings = process_kills.Killings(url, seed)
        killings.play()
        return killings.tally, killings.said
    stage = play(url, BY_NAME[strategy], seed)
    return stage.tally, stage.said


def fresh(server_url: str) -> str:
    """A new database on the server, migrated: its address."""
    url = connection.made_anew(server_url, DATABASE)
    migrations.migrate(url)
    return url


def names() -> list[str]:
    """All strategies, the killed processes at their end."""
    return [*(strategy.name for strategy in STRATEGIES), process_kills.NAME]


def _in_turn() -> Iterator[tuple[int, str]]:
    for episode in count():
        for name in names():
            yield episode, name


def show(proof: Proof, console: Console) -> None:
    """The table, and what was wrong."""
    table = Table("strategy of change", title="What was tried, and what was wrong")
    columns = [entry.name for entry in fields(Tally) if entry.name not in _PAGINGS]
    for name in columns:
        table.add_column(_HEADINGS.get(name, name), justify="right")
    total = Tally()
    for strategy, tally in proof.tallies.items():
        table.add_row(strategy, *(f"{getattr(tally, name):,}" for name in columns))
        total += tally
    table.add_section()
    table.add_row("all", *(f"{getattr(total, name):,}" for name in columns))
    console.print(table)
    counted = ", ".join(f"{heading} {getattr(total, name):,}" for name, heading in _PAGINGS.items())
    console.print(f"How syncs were read: {counted}")
    for finding in proof.findings:
        console.print(f"{finding.strategy}, round {finding.episode + 1} of seed {proof.seed}:")
        for sentence in finding.said:
            console.print(f"   {sentence}", markup=False)


def as_values(proof: Proof) -> dict[str, object]:
    """The proof for scripts."""
    return {**asdict(proof), "is_whole": proof.is_whole}
