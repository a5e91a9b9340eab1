"""Addresses of databases: what is read, what is refused, and what of it is shown."""

import psycopg
import pytest
from psycopg import sql

from etl.errors import ConfigError, DatabaseError
from etl.postgres import connection, migrations
from etl.postgres.connection import Connection
from etl.testing.emulator import World
from tests.support.scene import Scene


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@host/db",
        "postgresql://u:p%40ss%2Fword@host:5433/db",
        "postgresql://u@[::1]:5433/db",
        "postgresql://h1:5432,h2:5433/db",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://?host=/tmp&user=me@x",
        "postgresql://me@h?sslrootcert=/etc/a@b.pem",
        "postgresql://u:p@host/db?options=-c%20search_path%3Dbi",
        "postgresql://u:p?q@host/db",
        "postgresql://u:p@host:/db",
    ],
)
def test_every_form_of_libpq_is_taken(url: str) -> None:
    """Sockets, several hosts, IPv6, options, escaped characters."""
    connection.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:se@kret@host/db",
        "postgresql://u:sek/ret@host/db",
        "postgresql://u:s%kret@host/db",
        "postgresql://u:p@host:port/db",
        "postgresql://u:s@k/ret@host/db",
    ],
)
def test_an_address_that_reads_wrongly_is_refused(url: str) -> None:
    """A part of the password would be taken for the host or the database, and be shown."""
    with pytest.raises(ConfigError, match="DATABASE_URL: ") as caught:
        connection.check(url)
    assert "ret" not in str(caught.value)


def test_what_is_wrong_with_a_database_is_told_alike_by_all(url: str) -> None:
    """`migrate` reads the address as the others do, and says the reason too; nobody says the password."""
    wrong = connection.sibling(url, "no_such_database")
    for connect in (connection.connect, migrations.migrate):
        with pytest.raises(DatabaseError, match='database "no_such_database" does not exist') as caught:
            connect(wrong)
        assert "aims360:" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(server_url: str, encoding: str) -> None:
    """Before anything is made there: a job with a name of another alphabet would stop every run."""
    name = sql.Identifier("etl_test_other_encoding")
    with psycopg.connect(server_url, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
        how = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
        how = how.replace("LOCALE_PROVIDER libc ", "") if db.info.server_version < 150000 else how
        db.execute(sql.SQL(how).format(name, sql.Literal(encoding)))
        with pytest.raises(DatabaseError, match=f"is a database in {encoding}.*make one with ENCODING 'UTF8'"):
            migrations.migrate(connection.sibling(server_url, "etl_test_other_encoding"))
        db.execute(sql.SQL("DROP DATABASE {}").format(name))


def test_rows_are_written_in_our_encoding_whatever_the_environment_says(
    url: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGCLIENTENCODING would have Postgres read the JSON that is encoded here as something else; dates likewise."""
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    monkeypatch.setenv("PGOPTIONS", "-c DateStyle=German")
    url = f"{url}?client_encoding=latin1&options=-c%20DateStyle%3DGerman%20-c%20TimeZone%3DAsia/Tokyo"
    world = World(seed=1)
    world.add(jobStatusText="\u00e9\u4e2d", more={"also": "\u00e9"}, responseType="In-line", response='{"a": "\u00e9"}')
    with connection.connected(url) as other:
        assert Scene(other, world).sync().counts.inserted == 1
    assert Scene(db, world).differences() == []
    [row] = Scene(db, world).rows("SELECT extra, response_json FROM aims360.jobs")
    assert row == ({"more": {"also": "\u00e9"}}, {"a": "\u00e9"})
