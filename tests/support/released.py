"""Databases as releases left them, the sources that they mirrored, and all that can be told of a database.

`tests/releases/` holds them (tests/tools/write_release.py).
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from etl.postgres import migrations
from etl.postgres.connection import Connection
from etl.testing.emulator import World
from tests.support.paths import ROOT
from tests.support.scene import Scene
from tests.tools.write_release import source

RELEASES = ROOT / "tests" / "releases"
REVISIONS = sorted(path.name[:4] for path in RELEASES.glob("*.sql.gz"))
# All that a migration makes, by name: what it is, and what is said of it.
CATALOG = {
    "columns": """
        SELECT c.oid::regclass::text, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
               format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attstorage,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl') AND c.relkind IN ('r', 'v')
        """,
    "relations": """
        SELECT c.relkind, c.oid::regclass::text, c.reloptions, c.relrowsecurity, obj_description(c.oid, 'pg_class'),
               CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END
        FROM pg_class AS c
        WHERE c.relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl')
        """,
    "constraints": """
        SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid)
        FROM pg_constraint AS c
        WHERE c.connamespace::regnamespace::text IN ('aims360', 'bi', 'etl') AND c.contype <> 'n'
        """,
    "policies": """
        SELECT p.polrelid::regclass::text, p.polname, pg_get_expr(p.polqual, p.polrelid)
        FROM pg_policy AS p
        JOIN pg_class AS c ON c.oid = p.polrelid
        WHERE c.relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl')
        """,
    "functions": """
        SELECT pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc')
        FROM pg_proc AS p
        WHERE p.pronamespace::regnamespace::text IN ('aims360', 'bi', 'etl')
        """,
    "statistics": """
        SELECT pg_get_statisticsobjdef(s.oid)
        FROM pg_statistic_ext AS s
        WHERE s.stxnamespace::regnamespace::text IN ('aims360', 'bi', 'etl')
        """,
    "schemas": """
        SELECT n.nspname, obj_description(n.oid, 'pg_namespace')
        FROM pg_namespace AS n
        WHERE n.nspname IN ('aims360', 'bi', 'etl')
        """,
    "revision": "SELECT version_num FROM etl.alembic_version",
    "definitions": "SELECT digest FROM etl.definitions",
}
_TABLES = """
SELECT c.relnamespace::regnamespace::text, c.relname
FROM pg_class AS c
WHERE c.relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl') AND c.relkind = 'r'
  AND c.relname NOT IN ('alembic_version', 'definitions', 'compared')
"""
_COLUMNS = """
SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl') AND c.relkind = 'r'
"""
_COMPARED_BY_THE_KEY = "SELECT source_id, job_id FROM etl.compared"
_COMPARED_BY_THE_PAGE = "SELECT source_id, unnest(job_ids) FROM etl.compared"
Rows = dict[tuple[str, str], list[dict[str, Any]]]


def restored(url: str, revision: str) -> None:
    """Makes the empty database at `url` one as the release left it."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(gzip.decompress((RELEASES / f"{revision}.sql.gz").read_bytes()))


@contextmanager
def bare(url: str, revision: str) -> Iterator[sa.Connection]:
    """The tables of a revision without rows, functions and views, in a transaction."""
    with migrations.engine(url).begin() as connection:
        migrations.upgrade(until=revision, connection=connection)
        yield connection


def scenes(db: Connection, revision: str) -> dict[str, Scene]:
    """The sources that were mirrored, by name, as they were when the database was left; they go on from there."""
    told = json.loads(gzip.decompress((RELEASES / f"{revision}.json.gz").read_bytes()))
    return {name: a_scene(db, name, state) for name, state in told.items()}


def a_scene(db: Connection, name: str, state: dict[str, Any]) -> Scene:
    """A source that was mirrored, from its state on."""
    world = World.serving(state["jobs"], now=datetime.fromisoformat(state["now"]))
    world.version = max(world.version, state["version"])
    return Scene(db, world, source(name), page_size=5)


def catalog(db: Connection) -> dict[str, set[tuple[str, ...]]]:
    """What is there, and what is said of it."""
    return {
        what: {tuple(map(str, row)) for row in db.execute(statement.encode()).fetchall()}
        for what, statement in CATALOG.items()
    }


def unlike(found: dict[str, set[tuple[str, ...]]], wanted: dict[str, set[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """What only one of two catalogs has."""
    return [(what, *row) for what in CATALOG for row in sorted(found[what] ^ wanted[what])]


def columns(db: Connection) -> set[tuple[str, ...]]:
    """The tables' columns with their types."""
    return {tuple(map(str, row)) for row in db.execute(_COLUMNS).fetchall()}


def rows(db: Connection) -> Rows:
    """Every row of every table, by column."""
    whole = sql.SQL("SELECT to_jsonb(t) FROM {} AS t")
    found: Rows = {}
    for namespace, table in db.execute(_TABLES).fetchall():
        place = sql.Identifier(str(namespace), str(table))
        found[str(namespace), str(table)] = [dict(row[0]) for row in db.execute(whole.format(place)).fetchall()]  # type: ignore[call-overload]
    return found


def lost(before: Rows, after: Rows) -> list[str]:
    """Rows that aren't there any more as they were, but for columns that came later."""
    gone: list[str] = []
    for table, were in before.items():
        known = {name for row in were for name in row}
        missing = _counted(were, known) - _counted(after[table], known)
        gone += [f"{'.'.join(table)}: {row}" for row in missing]
        if len(were) != len(after[table]):
            gone.append(f"{'.'.join(table)}: {len(after[table])} rows, where {len(were)} were")
    return gone


def _counted(found: list[dict[str, Any]], known: set[str]) -> Counter[str]:
    """Count rows. A sum that is made anew may be 0 where it was 0.000000."""
    plain = (
        {k: int(v) if v == 0.0 and isinstance(v, float) else v for k, v in row.items() if k in known} for row in found
    )
    return Counter(json.dumps(row, sort_keys=True) for row in plain)


def compared(db: Connection, revision: str) -> set[tuple[object, ...]]:
    """The keys that comparisons under way have seen, by source: none before 0003, by the page since 0004."""
    if revision < "0003":
        return set()
    return set(db.execute(_COMPARED_BY_THE_KEY if revision == "0003" else _COMPARED_BY_THE_PAGE).fetchall())
