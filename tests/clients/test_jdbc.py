"""pgjdbc in a JVM: what Metabase, DBeaver and Tableau read with."""

import os
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import jpype
import pytest

from tests.clients.expected import LINKS, VIEWS, Login, all_of, columns, comparable, rows

_JAR = os.environ.get("PGJDBC", "/usr/share/java/postgresql.jar")
# Where people sit, not UTC: times without zone must not be moved there. It knows no summer time, in whose gaps
# java.sql.Timestamp can't say every time of day.
_ELSEWHERE = "-Duser.timezone=America/Phoenix"


@pytest.fixture(scope="session")
def java() -> None:
    """The JVM; there is one a process, and it can't be started again."""
    jpype.startJVM(_ELSEWHERE, "-Xmx256m", classpath=[_JAR], convertStrings=True)


def connected(login: Login) -> Any:
    """A java.sql.Connection."""
    known = jpype.java.util.Properties()
    known.setProperty("user", login.user)
    known.setProperty("password", login.password)
    way = f"jdbc:postgresql://{login.host}:{login.port}/{login.database}"
    return jpype.java.sql.DriverManager.getConnection(way, known)


@pytest.fixture
def jdbc(java: None, reader: Login) -> Iterator[Any]:
    """A session of the reader's."""
    connection = connected(reader)
    yield connection
    connection.close()


def test_every_view_is_listed_with_its_comment(jdbc: Any) -> None:
    """DatabaseMetaData.getTables: REMARKS become the descriptions of Metabase's tables."""
    found = jdbc.getMetaData().getTables(None, "bi", "%", None)
    listed = {}
    while found.next():
        listed[found.getString("TABLE_NAME")] = (found.getString("TABLE_TYPE"), found.getString("REMARKS"))
    assert set(VIEWS) <= set(listed)
    assert all(listed[view][0] == "VIEW" and listed[view][1] for view in VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_is_described(jdbc: Any, reader: Login, view: str) -> None:
    """getColumns: name, type and comment of each."""
    found = jdbc.getMetaData().getColumns(None, "bi", view, "%")
    described = []
    while found.next():
        described.append((found.getString("COLUMN_NAME"), found.getString("TYPE_NAME"), found.getString("REMARKS")))
    assert described == [(column.name, column.kind.jdbc, column.comment) for column in columns(reader, view)]
    assert all(comment for _, _, comment in described)


@pytest.mark.parametrize("view", VIEWS)
def test_every_value_arrives_in_its_class(jdbc: Any, reader: Login, view: str) -> None:
    """Timestamp, Date, BigDecimal, Long and the rest, with the values that psycopg reads, in another zone too."""
    wanted = columns(reader, view)
    names = [column.name for column in wanted]
    found = jdbc.createStatement().executeQuery(all_of(view))
    told = found.getMetaData()
    places = range(1, told.getColumnCount() + 1)
    assert [told.getColumnClassName(place) for place in places] == [column.kind.java for column in wanted]
    got = []
    while found.next():
        got.append([in_python(found.getObject(place)) for place in places])
    assert got
    assert comparable(names, got) == comparable(names, rows(reader, view))


def in_python(value: Any) -> Any:
    """Java's value as Python's."""
    match type(value).__name__:
        case "java.sql.Timestamp":
            return datetime.fromisoformat(str(value.toLocalDateTime()))
        case "java.sql.Date":
            return date.fromisoformat(str(value.toLocalDate()))
        case "java.math.BigDecimal":
            return Decimal(str(value.toPlainString()))
        case "java.lang.Integer" | "java.lang.Long":
            return int(value)
        case "java.lang.Boolean":
            return bool(value)
    return value


def test_a_filter_with_parameters_asks_postgres(jdbc: Any) -> None:
    """A prepared statement with a java.time value, as Metabase's filters are."""
    asked = jdbc.prepareStatement("SELECT count(*) FROM bi.jobs WHERE created_at_utc >= ?")
    counts = []
    for moment in ("2000-01-01T00:00", "2100-01-01T00:00"):
        asked.setObject(1, jpype.java.time.LocalDateTime.parse(moment))
        found = asked.executeQuery()
        found.next()
        counts.append(int(found.getLong(1)))
    assert counts[0] > 0
    assert counts[1] == 0


def test_links_are_refused_to_readers_and_given_to_whom_they_were_granted(jdbc: Any, link_reader: Login) -> None:
    """A member of aims360_bi can't read them, a member of aims360_links can."""
    with pytest.raises(jpype.java.sql.SQLException, match=f"permission denied for view {LINKS}"):
        jdbc.createStatement().executeQuery(all_of(LINKS))
    allowed = connected(link_reader)
    assert allowed.createStatement().executeQuery(all_of(LINKS)).next()
    allowed.close()
