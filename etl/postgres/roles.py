"""Who reads `bi`, and who keeps the mirror: a login role becomes a member of the roles that may.

Readers may be held to some accounts. A writer syncs, purges and compares, and changes no table, view or right.
"""

import re
from collections.abc import Sequence

import psycopg
from psycopg import sql

from etl.errors import ConfigError, DatabaseError
from etl.postgres.connection import Connection
from etl.postgres.package_data import folder

# As text: as a name it would be cut to the 63 bytes that a name may have, and found; in account_access it is not cut.
_KNOWN = "SELECT has_table_privilege(oid, 'aims360.jobs', 'SELECT') FROM pg_roles WHERE rolname::text = %s"
_MAKES_READERS = "CREATE ROLE aims360_bi; CREATE ROLE aims360_links IN ROLE aims360_bi; CREATE ROLE aims360_held"
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(360360, 1)"
_READS_LINKS = """
SELECT has_table_privilege(%(role)s, 'bi.job_links', 'SELECT') OR pg_has_role(%(role)s, 'aims360_links', 'MEMBER')
"""
_HELD = """
SELECT DISTINCT concat_ws(' of ', 'account ' || a.account_code, 'source ' || a.source)
FROM bi.account_access AS a
JOIN pg_roles AS r ON r.rolname = a.role_name
WHERE pg_has_role(%(role)s, r.oid, 'MEMBER')
ORDER BY 1
"""
_GROUPS = ("aims360_bi", "aims360_links", "aims360_held", "aims360_writer")
_IS_HELD = """
SELECT EXISTS (SELECT FROM bi.account_access AS a JOIN pg_roles AS r ON r.rolname = a.role_name
               WHERE pg_has_role(%(role)s, r.oid, 'MEMBER'))
    OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'aims360_held' AND pg_has_role(%(role)s, oid, 'MEMBER'))
"""
_WRITES = "SELECT has_table_privilege(%(role)s, 'aims360.jobs', 'INSERT')"
_OWNS = """
SELECT pg_has_role(%(role)s, relowner, 'MEMBER') FROM pg_class WHERE oid = 'aims360.jobs'::regclass
"""
_UNKNOWN_ACCOUNTS = """
SELECT asked FROM unnest(%s::text[]) AS asked
WHERE NOT EXISTS (SELECT FROM bi.job_daily AS d WHERE d.account_code = asked)
"""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SOURCE_IS_KNOWN = "SELECT EXISTS (SELECT FROM etl.sources WHERE name = %s)"
_HELD_TO = """
INSERT INTO bi.account_access (role_name, source, account_code) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""


def grant(
    db: Connection, role: str, links: bool = False, source: str | None = None, accounts: Sequence[str] = ()
) -> str:
    """Lets a role that exists read `bi`, and the links if wished; with a source or accounts, rows of those alone.

    Makes the reading roles where they are missing. Gives a sentence on what the role reads now, by earlier grants too.
    Raises ConfigError for a role or source that doesn't exist, an account without a code, and a role from which nothing
    can be withheld; DatabaseError where that takes more rights.
    """
    if any(map(_UNSTORABLE.search, (role, source or "", *accounts))):
        raise ConfigError("a role, a source or an account holds what no text of Postgres can")
    if "" in accounts:
        raise ConfigError("--account: is empty; jobs without an account are seen by those who see all")
    if role in _GROUPS:
        raise ConfigError(f"--bi: {role} is what roles become members of; name one of these")
    reads_all = _reads_mirror(db, "--bi", role)
    if (source or accounts) and reads_all:
        raise ConfigError(f"{role} reads the tables of the mirror themselves: it can't be held to accounts")
    if source is not None and db.execute(_SOURCE_IS_KNOWN, (source,)).fetchone() != (True,):
        raise ConfigError(f"--source: nothing was synced of a source called {source!r}")
    held_to: list[str | None] = [*accounts] if accounts or source is None else [None]
    with db.transaction():
        db.execute(_ONE_AT_A_TIME)  # Postgres refuses two changes of a role's rights at the same time
        for account in held_to:
            db.execute(_HELD_TO, (role, source, account))
        _make(db, "roles.sql", _MAKES_READERS)
        _admit(db, role, "aims360_links" if links else "aims360_bi")
        if accounts or source:
            _admit(db, role, "aims360_held")
    return _reads(db, role, reads_all)


def _reads(db: Connection, role: str, reads_all: bool) -> str:
    """What a role reads by all that it was granted until now."""
    given = {"role": role}
    links = db.execute(_READS_LINKS, given).fetchone() == (True,)
    held = "" if reads_all else ", ".join(str(row[0]) for row in db.execute(_HELD, given).fetchall())
    return f"{role} reads schema bi{', links too' if links else ', but no links'}{f': {held} alone' if held else ''}"


def grant_writer(db: Connection, role: str) -> str:
    """Lets a role that exists sync, purge and reconcile, and read all of it; makes the role aims360_writer if missing.

    Gives a sentence on what it may now. Raises ConfigError for a role that doesn't exist, or that is held to accounts;
    DatabaseError where that takes more rights.
    """
    if _UNSTORABLE.search(role) or role in _GROUPS:
        raise ConfigError("--writer: name a role that logs in; it becomes a member of aims360_writer")
    _reads_mirror(db, "--writer", role)
    given = {"role": role}
    if db.execute(_OWNS, given).fetchone() == (True,):
        return f"{role} may do all that the mirror's owner may: it needs no grant, and got none"
    if db.execute(_IS_HELD, given).fetchone() == (True,):
        raise ConfigError(
            f"--writer: {role} is held to accounts, and a writer reads all: make a role of its own for it"
        )
    with db.transaction():
        db.execute(_ONE_AT_A_TIME)
        _make(db, "writer.sql", "CREATE ROLE aims360_writer")
        _admit(db, role, "aims360_writer")
        if db.execute(_WRITES, given).fetchone() != (True,):
            cure = sql.SQL("ALTER ROLE {} INHERIT").format(sql.Identifier(role)).as_string(db)
            raise ConfigError(f"--writer: {role} doesn't inherit what its roles may: run `{cure}`, then this again")
    return f"{role} syncs, purges and reconciles; it doesn't migrate, grant or erase"


def _reads_mirror(db: Connection, option: str, role: str) -> bool:
    row = db.execute(_KNOWN, (role,)).fetchone()
    if row is None:
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD '…'").format(sql.Identifier(role)).as_string(db)
        raise ConfigError(f"{option}: there is no role {role!r} on this server; make it first: {made}")
    return bool(row[0])


def _make(db: Connection, file: str, cure: str) -> None:
    """Makes the roles of a file of `sql/` where they are missing, and lets them do what it says."""
    try:
        db.execute((folder("sql") / file).read_bytes())
    except psycopg.errors.InsufficientPrivilege:
        raise DatabaseError(
            "making roles takes the right CREATEROLE, and letting them read and write takes the owner of the mirror: "
            f"where they are missing let an administrator run `{cure}`; then this command again, as the owner"
        ) from None


def _admit(db: Connection, role: str, group: str) -> None:
    statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(role))
    try:
        db.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        said = f'GRANT {group} TO "{role}"'
        raise DatabaseError(f"admitting a role takes more rights here: let an administrator run `{said}`") from None


def unknown(db: Connection, accounts: Sequence[str]) -> list[str]:
    """Which of these accounts have no job here, and had none."""
    return [str(row[0]) for row in db.execute(_UNKNOWN_ACCOUNTS, ([*accounts],)).fetchall()]
