"""Beyond one Postgres: what `create_distributed_table(…, 'source_id')` asks of keys and statements (docs/scale.md)."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from etl.models import Run
from etl.postgres.connection import Connection, connect_as
from etl.postgres.tables import metadata
from etl.testing.emulator import populated
from tests.support.paths import ROOT
from tests.support.scene import Scene

# These have no source, or are found by its name: they stay where the coordinator is.
LOCAL = {
    "etl.sources",
    "etl.roster",
    "etl.queue",
    "etl.definitions",
    "etl.erasures",  # one row may be of all sources
    "etl.alembic_version",
    "bi.account_access",
}
_TABLES = """
SELECT c.oid::regclass::text
FROM pg_class AS c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace IN ('aims360'::regnamespace, 'etl'::regnamespace, 'bi'::regnamespace)
"""
# An expression can't stand for the column: it must be there itself.
_UNIQUE = """
SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text,
    EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = i.indrelid AND a.attname = 'source_id' AND a.attnum = ANY (i.indkey::smallint[])
    )
FROM pg_index AS i
WHERE i.indisunique OR i.indisexclusion
"""
_KEYLESS = "SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'source_id' AND attnotnull"
# Both sides hold it, at the same place of the key.
_REFERENCES = """
SELECT k.conrelid::regclass::text, k.confrelid::regclass::text,
    EXISTS (
        SELECT
        FROM unnest(k.conkey, k.confkey) AS pair (ours, theirs)
        JOIN pg_attribute AS o ON o.attrelid = k.conrelid AND o.attnum = pair.ours AND o.attname = 'source_id'
        JOIN pg_attribute AS t ON t.attrelid = k.confrelid AND t.attnum = pair.theirs AND t.attname = 'source_id'
    )
FROM pg_constraint AS k
WHERE k.contype = 'f' AND k.connamespace IN ('aims360'::regnamespace, 'etl'::regnamespace)
"""
_IDENTITIES = """
SELECT a.attrelid::regclass::text, format_type(a.atttypid, NULL)
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid AND c.relnamespace IN ('aims360'::regnamespace, 'etl'::regnamespace)
WHERE a.attidentity <> '' OR a.atthasdef AND pg_get_serial_sequence(a.attrelid::regclass::text, a.attname) IS NOT NULL
"""
_TRIGGERS = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"

NAMES = re.compile(r"\b(?:aims360|etl)\.[a-z_]+\b")
# One source, whose number is a parameter; or rows that are written with it.
OF_ONE_SOURCE = re.compile(r"source_id = (?:%s|%\(source_id\)s)")
WRITTEN_WITH_IT = re.compile(r"\b(?:INSERT INTO|COPY) [a-z0-9_.]+ (?:AS \w+ )?\(\s*\"?source_id\b")
BY_NAME = re.compile(r"WHERE name = %|\(name, ")


@pytest.fixture
def distributed(db: Connection) -> set[str]:
    """Every table that would be distributed."""
    return {str(name) for (name,) in db.execute(_TABLES).fetchall()} - LOCAL


def test_all_tables_are_distributed_by_source_or_named_here(db: Connection, distributed: set[str]) -> None:
    """A new table has a source, or is added to those that stay local, here and in docs/scale.md."""
    ours = {f"{table.schema}.{table.name}" for table in metadata.sorted_tables}
    assert distributed == ours - LOCAL
    for table in distributed:
        assert db.execute(_KEYLESS, (table,)).fetchone() == (1,), table
    told = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert [name for name in sorted(LOCAL | distributed) if name not in told] == []


def test_every_unique_key_of_a_distributed_table_holds_the_source(db: Connection, distributed: set[str]) -> None:
    """Else two nodes would have to ask each other about every row."""
    keys = [row for row in db.execute(_UNIQUE).fetchall() if row[0] in distributed]
    assert len(keys) >= len(distributed)
    assert [index for _, index, holds_it in keys if not holds_it] == []


def test_what_refers_to_another_table_refers_to_the_same_source(db: Connection, distributed: set[str]) -> None:
    """And to a table that lies beside it."""
    references = db.execute(_REFERENCES).fetchall()
    assert references
    assert [row for row in references if not row[2] or not {row[0], row[1]} <= distributed] == []


def test_nothing_is_there_that_cannot_be_distributed(db: Connection, distributed: set[str]) -> None:
    """Numbers that Postgres gives are bigint, and no trigger waits for rows."""
    identities = [(table, kind) for table, kind in db.execute(_IDENTITIES).fetchall() if table in distributed]
    assert identities
    assert {kind for _, kind in identities} == {"bigint"}
    assert [table for (table,) in db.execute(_TRIGGERS).fetchall() if table in distributed] == []


def test_nothing_relies_on_how_many_rows_a_conditional_upsert_wrote() -> None:
    """Citus doesn't count them reliably: the driver is asked nowhere, and no conditional one returns its rows."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for place in ("etl", "sql")
        for path in (ROOT / place).rglob("*.*")
        if path.suffix in (".py", ".sql")
    }
    assert [path for path, text in texts.items() if ".rowcount" in text or "statusmessage" in text] == []
    upserts = [found for text in texts.values() for found in re.findall(r"DO UPDATE\b.*?(?:\"\"\"|;)", text, re.DOTALL)]
    assert upserts
    assert [text for text in upserts if "WHERE" in text and "RETURNING" in text] == []


class Recording(psycopg.Connection[tuple[object, ...]]):
    """A connection that keeps what is asked through it."""

    asked: list[str]


class RecordingCursor(psycopg.Cursor[tuple[object, ...]]):
    """Every statement, before it is sent."""

    def _keep(self, query: Any) -> None:
        text = query.as_string(self) if isinstance(query, sql.Composable) else query
        text = text.decode() if isinstance(text, bytes) else text
        connection = self.connection
        assert isinstance(connection, Recording)
        connection.asked.append(re.sub(r"\s+", " ", text))

    def execute(self, query: Any, *given: Any, **how: Any) -> Any:
        """As ever."""
        self._keep(query)
        return super().execute(query, *given, **how)

    def executemany(self, query: Any, *given: Any, **how: Any) -> None:
        """As ever."""
        self._keep(query)
        super().executemany(query, *given, **how)

    def copy(self, statement: Any, *given: Any, **how: Any) -> Any:
        """As ever."""
        self._keep(statement)
        return super().copy(statement, *given, **how)


@pytest.fixture
def recording(url: str) -> Iterator[Recording]:
    """A connection as the program makes it, which tells what was asked."""
    with closing(connect_as(Recording, url)) as db:
        db.asked = []
        db.cursor_factory = RecordingCursor
        yield db


def a_life(scene: Scene) -> list[Run]:
    """All that a sync does: a first scan, changes, reruns, rejects, returns, purges, deep passes, a restore's look."""
    world = scene.world
    runs = [scene.sync()]
    for day in range(10):
        jobs = list(world.jobs())
        world.rerun(jobs[day])
        world.change(jobs[day + 1], jobStatus="Failed")
        world.add()
        bad = world.add()
        world.change(bad, overrides={"percentCompleted": "no number"} if day % 2 else {"accountCode": 22})
        runs.append(scene.sync())
        world.change(bad, overrides={"percentCompleted": 100, "accountCode": "AZ022"})
        world.advance(timedelta(days=1))
    runs += [scene.sync(full=True), scene.sync(full=True, rewrite=True), scene.purge(), scene.reconcile(repair=True)]
    return runs


def test_every_statement_of_a_sync_is_of_one_source(recording: Recording, distributed: set[str]) -> None:
    """Whatever it asks of a table that is distributed goes to the node of its source, and nowhere else."""
    scene = Scene(recording, populated(300, seed=1, rate=5, rerun_share=0.1))
    runs = a_life(scene)
    asked, recording.asked = set(recording.asked), []
    touching = {text: set(NAMES.findall(text)) for text in asked}
    for text, names in touching.items():
        mentions = [name for name in NAMES.findall(text) if name in distributed]
        assert len(re.findall(r"\bsource_id\b", text)) >= len(mentions), text
        if mentions:
            assert OF_ONE_SOURCE.search(text) or WRITTEN_WITH_IT.search(text), text
        elif "etl.sources" in names:
            assert OF_ONE_SOURCE.search(text) or BY_NAME.search(text), text
    done = {
        name: sum(getattr(run.counts, name) for run in runs) for name in ("inserted", "updated", "purged", "rejected")
    }
    assert min(done.values()) > 0, done
    assert len(set().union(*touching.values()) & distributed) >= 9, touching.values()
