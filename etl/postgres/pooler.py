"""Whether a connection has a session of Postgres to itself, as whoever writes must: a source's lock is the session's.

A pooler of transactions (PgBouncer with pool_mode = transaction) lets many clients use one session in turn. A lock that
is taken there is everybody's: the same session may take it twice, so two syncs would both believe that they hold the
source. What is set there holds for others. A pooler of sessions gives each client one until it leaves, which will do.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from selectors import EVENT_READ, DefaultSelector

import psycopg
from psycopg import conninfo, pq, sql

from etl.errors import ConfigError, DatabaseError
from etl.postgres.connection import Connection, masked, said, settle

# Postgres tells a client at its login the number of the process that serves it. A pooler, which has none yet, makes one
# up. A session that was found to be ours alone is marked with that number; to ask costs no round trip of its own.
IS_OURS = sql.SQL("(pg_backend_pid() = %(client)s OR current_setting('aims360.client', true) = %(client)s::text)")
_MARK = "SELECT set_config('aims360.client', %s, false)"
_SERVED_BY = "SELECT pg_backend_pid()"
_OTHERS = 8
_PATIENCE = 10.0  # seconds for another client to be served


def require(db: Connection) -> None:
    """Raises ConfigError unless the connection, which behind a pooler is in no transaction, has a session to itself.

    Free of doubt it is marked so, and has the settings of a writer from then on.
    """
    # A session that is ours serves nobody else, and we are served by no other: so whoever has one is never refused. In
    # a pool of transactions any session that is free may serve whoever comes next. PgBouncer takes the one that was
    # given back last: the other client meets ours, which has just been given back. With server_round_robin it takes the
    # one that was given back first: asking twice in a row the other meets two, or there is only one for all. Other
    # clients can take a session away between two questions, so that neither is seen; they would have to do so between
    # any two, always the same, which eight others in a row don't let happen. What could fool us: several poolers behind
    # one address, where none of the eight comes to the one that we came to; a pooler that tells the number of a real
    # process at the login; and one that is set to another mode later on.
    ours = _served_by(db)
    if ours != db.info.backend_pid:
        assert db.info.transaction_status == pq.TransactionStatus.IDLE
        for _ in range(_OTHERS):
            if _is_shared(db, ours):
                raise ConfigError(
                    f"DATABASE_URL: leads to {masked(db.info.dsn)} through a pooler of transactions, where no lock "
                    "holds: what writes needs a session of Postgres. Name Postgres itself, or a pooler with "
                    "pool_mode = session; readers may stay (docs/scale.md)"
                )
        settle(db)
        db.execute(_MARK, (str(db.info.backend_pid),))


def _is_shared(db: Connection, ours: int) -> bool:
    """Whether another client of the same pooler is seen to be served by our session, or either by several."""
    with _another(db) as other:
        theirs = {_patiently(other), _patiently(other)}
        return len(theirs) > 1 or ours in theirs or _served_by(db) != ours


def _served_by(db: Connection) -> int:
    row = db.execute(_SERVED_BY).fetchone()
    assert row is not None
    return int(str(row[0]))


@contextmanager
def _another(db: Connection) -> Iterator[Connection]:
    """A second client of what `db` is connected to. Raises DatabaseError where there is no room for one."""
    # Where several hosts are named, or a name has several addresses, it is the one that we came to.
    there = {"host": db.info.host, "hostaddr": db.info.hostaddr, "password": db.info.password}
    try:
        address = conninfo.make_conninfo(db.info.dsn, port=db.info.port, options="", **there)
        with closing(psycopg.connect(address, autocommit=True)) as other:
            yield other
    except psycopg.Error as error:
        raise _cannot_tell(db, said(error)) from None


def _patiently(other: Connection) -> int:
    """Who serves the other client. A pool without a free session would have it wait for one, for ever even."""
    other.pgconn.send_query(_SERVED_BY.encode())
    with DefaultSelector() as selector:
        selector.register(other.pgconn.socket, EVENT_READ)
        if not selector.select(_PATIENCE):
            raise psycopg.OperationalError(f"no session was free for a second client in {_PATIENCE:g}s")
    [result] = iter(other.pgconn.get_result, None)
    value = result.get_value(0, 0)
    if value is None:
        raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
    return int(value)


def _cannot_tell(db: Connection, why: str) -> DatabaseError:
    return DatabaseError(
        f"{masked(db.info.dsn)} is a pooler, and it can't be told whether it pools by session: {why}; let DATABASE_URL "
        "name Postgres itself, or give the pooler room for one more session"
    )
