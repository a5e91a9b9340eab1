"""The least that a piece of work can cost: the same rows by plain statements, and the same packages imported."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.bench.measure import environment, timed

TABLES = ("jobs", "job_documents", "job_status_history")
FORMATS = ("binary", "text")
BLOCK = 1 << 18

# A plan made while a table was small must not be kept for a large one.
SESSION = "-c enable_seqscan=off -c statement_timeout=15min"

_COLUMNS = """
SELECT column_name
FROM information_schema.columns
WHERE table_schema = 'aims360' AND table_name = %s AND is_identity = 'NO'
ORDER BY ordinal_position
"""
_THIRD_PARTY = """
import sys, sysconfig
known = set(sys.modules)
import etl.cli, etl.pipeline.sync, etl.client.client, etl.postgres.connection, etl.postgres.migrations
home = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
tops = {name.partition(".")[0] for name in sys.modules.keys() - known}
print(*sorted(n for n in tops if (getattr(sys.modules.get(n), "__file__", None) or "").startswith(home)))
print(*sorted(name for name, module in sys.modules.items() if module is None))
"""


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A fresh connection."""
    return psycopg.connect(url, options=SESSION)


def columns(db: psycopg.Connection[tuple[object, ...]], table: str) -> list[str]:
    """The columns of a table of the mirror that are not made by Postgres itself."""
    return [str(row[0]) for row in db.execute(_COLUMNS, (table,))]


@dataclass(frozen=True)
class Dump:
    """The rows of a mirror in files, ready for COPY, by format and table."""

    folder: Path

    def take(self, url: str) -> None:
        """The rows of this mirror."""
        with connect(url) as db:
            for how in FORMATS:
                for table in TABLES:
                    with (
                        self._file(how, table).open("wb") as file,
                        db.cursor().copy(_copy(db, table, "TO", how)) as out,
                    ):
                        for block in out:
                            file.write(block)

    def seconds(self, url: str, how: str) -> float:
        """How long they take into the empty tables of this mirror, in one transaction."""
        with connect(url) as db:
            statements = {table: _copy(db, table, "FROM", how) for table in TABLES}
            db.commit()

            def work() -> None:
                with db.transaction():
                    for table, statement in statements.items():
                        with self._file(how, table).open("rb") as file, db.cursor().copy(statement) as into:
                            while block := file.read(BLOCK):
                                into.write(block)

            return timed(work)

    def forget(self) -> None:
        """Room on the disk."""
        for file in (self._file(how, table) for how in FORMATS for table in TABLES):
            file.unlink(missing_ok=True)

    def _file(self, how: str, table: str) -> Path:
        return self.folder / f"{table}.{how}"


def _copy(db: psycopg.Connection[tuple[object, ...]], table: str, way: str, how: str) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns(db, table)))
    where = {"FROM": "FROM STDIN", "TO": "TO STDOUT"}[way]
    return sql.SQL("COPY aims360.{} ({}) " + where + " (FORMAT {})").format(sql.Identifier(table), names, sql.SQL(how))


def imports() -> str:
    """A program that imports the third-party packages that a sync loads, and nothing else."""
    asked = subprocess.run([sys.executable, "-c", _THIRD_PARTY], env=environment({}), check=True, capture_output=True)
    packages, left_out = asked.stdout.decode().split("\n")[:2]
    hidden = "".join(f"sys.modules['{name}'] = None; " for name in left_out.split())
    return f"import sys; {hidden}import {', '.join(packages.split())}"
