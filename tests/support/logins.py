"""Login roles for a while: what a role may read is tried by connecting as it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from psycopg import sql

from etl.postgres.connection import Connection

PASSWORD = "guest"


@contextmanager
def a_login(db: Connection, kind: str) -> Iterator[str]:
    """The name of a new login role without any right; it is gone at the end, with all that it was granted."""
    name = sql.Identifier(role := f"{kind}_{os.getpid()}")
    db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(PASSWORD)))
    try:
        yield role
    finally:
        db.execute(sql.SQL("DROP OWNED BY {}").format(name))
        db.execute(sql.SQL("DROP ROLE {}").format(name))


def as_role(url: str, role: str) -> str:
    """The address of the same database, as another role."""
    host = url.rpartition("@")[2]
    return f"postgresql://{quote(role)}:{PASSWORD}@{host}"
