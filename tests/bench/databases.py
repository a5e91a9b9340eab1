"""An embedded Postgres with a database for each piece of work, made from another one; and what was written there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from etl.config import settings
from etl.postgres import embedded
from etl.postgres.connection import sibling
from tests.bench.measure import etl, run

# Checkpoints come when the bench asks for one, and not in the middle of a run.
OPTIONS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}
EMPTY = "bench_empty"

_WRITTEN = """
SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del
FROM pg_stat_user_tables
"""
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Tuples:
    """Rows written, as Postgres counts them."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def new(self) -> int:
        """Versions of rows that were written."""
        return self.inserted + self.updated

    @property
    def total(self) -> int:
        """All that was written."""
        return self.inserted + self.updated + self.deleted

    def __sub__(self, before: "Tuples") -> "Tuples":
        mine, theirs = astuple(self), astuple(before)
        return Tuples(*(now - then for now, then in zip(mine, theirs, strict=True)))

    def __add__(self, other: "Tuples") -> "Tuples":
        return Tuples(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Cluster:
    """The Postgres of the bench."""

    url: str

    def address(self, name: str) -> str:
        """The address of one of its databases."""
        return sibling(self.url, name)

    def make(self, name: str, template: str = EMPTY) -> str:
        """A database with the contents of another one, and its address; one of that name goes."""
        self.drop(name)
        how = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._say(how.format(sql.Identifier(name), sql.Identifier(template)))
        return self.address(name)

    def drop(self, *names: str) -> None:
        """These databases are no longer needed."""
        for name in names:
            self._say(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def checkpoint(self) -> None:
        """All is on disk: what is written next begins with whole pages in the WAL."""
        self._say("CHECKPOINT")

    def settle(self, name: str) -> None:
        """The tables of a database as they are once autovacuum has been there."""
        with psycopg.connect(self.address(name), autocommit=True) as db:
            db.execute("VACUUM (ANALYZE)")

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nothing in the WAL but what the work has changed.

        No autovacuum, and no images of whole pages, which after a checkpoint outweigh by far what stands in them.
        """
        names = ("autovacuum", "full_page_writes")
        self._alter(*(f"ALTER SYSTEM SET {name} = off" for name in names))
        try:
            yield
        finally:
            self._alter(*(f"ALTER SYSTEM RESET {name}" for name in names))

    def _alter(self, *statements: str) -> None:
        for statement in (*statements, "SELECT pg_reload_conf()"):
            self._say(statement)

    def wal(self) -> int:
        """Bytes of WAL written so far."""
        return int(str(self._say("SELECT pg_current_wal_insert_lsn() - '0/0'")[0][0]))

    def version(self) -> str:
        """Postgres' version."""
        return str(self._say("SHOW server_version")[0][0])

    def written(self, name: str) -> dict[str, Tuples]:
        """Rows written so far in a database, by table, once all other sessions have ended and told."""
        with psycopg.connect(self.address(name), autocommit=True) as db:
            for _ in range(200):
                row = db.execute(_OTHERS).fetchone()
                if row == (0,):
                    break
                time.sleep(0.01)
            else:
                raise RuntimeError(f"other sessions are still at work in {name}")
            return {str(row[0]): Tuples(*map(int, row[1:])) for row in db.execute(_WRITTEN)}

    def _say(self, statement: str | sql.Composed) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as db:
            found = db.execute(statement.encode() if isinstance(statement, str) else statement)
            return found.fetchall() if found.description else []


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """An embedded Postgres in this folder with a migrated database in it, removed at the end."""
    try:
        found = Cluster(settings.libpq_url(embedded.start(folder, OPTIONS).url))
        found.make(EMPTY, "template1")
        run(etl("migrate"), {"DATABASE_URL": found.address(EMPTY)})
        yield found
    finally:
        embedded.remove(folder)
