"""Addresses of databases: what is read, what is refused, and what of it is shown."""

import pytest

from etl import database, schema
from etl.errors import ConfigError, DatabaseError


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
    database.check(url)


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
        database.check(url)
    assert "ret" not in str(caught.value)


def test_what_is_wrong_with_a_database_is_told_alike_by_all(url: str) -> None:
    """`migrate` reads the address as the others do, and says the reason too; nobody says the password."""
    wrong = database.sibling(url, "no_such_database")
    for connect in (database.connect, schema.migrate):
        with pytest.raises(DatabaseError, match='database "no_such_database" does not exist') as caught:
            connect(wrong)
        assert "aims360:" not in str(caught.value)
