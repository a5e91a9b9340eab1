"""psqlODBC through pyodbc: what Excel, Access and Power BI's ODBC connector read with."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pyodbc
import pytest

from tests.clients.conftest import TENANT
from tests.clients.expected import LINKS, VIEWS, Login, all_of, columns, comparable, rows

# docs/bi.md tells to set BoolsAsChar=0: by default the driver hands booleans over as the texts '1' and '0'.
_AS_TOLD = "BoolsAsChar=0;"
_FETCHING = "BoolsAsChar=0;UseDeclareFetch=1;Fetch=100;"

_COMMENTS = """
    SELECT a.attname, col_description(a.attrelid, a.attnum), obj_description(a.attrelid, 'pg_class')
    FROM pg_attribute AS a
    WHERE a.attrelid = 'bi.jobs'::regclass AND a.attnum > 0
    ORDER BY a.attnum
"""


def connected(login: Login, options: str = _AS_TOLD) -> pyodbc.Connection:
    """A session of the driver that Windows lists as "PostgreSQL Unicode(x64)"."""
    way = (
        "DRIVER={PostgreSQL Unicode}",
        f"SERVER={login.host}",
        f"PORT={login.port}",
        f"DATABASE={login.database}",
        f"UID={login.user}",
        f"PWD={login.password}",
        options,
    )
    return pyodbc.connect(";".join(way), autocommit=True)


@pytest.fixture
def odbc(reader: Login) -> Iterator[pyodbc.Connection]:
    """A session of the reader's, with the options that docs/bi.md tells to set."""
    connection = connected(reader)
    yield connection
    connection.close()


def test_every_view_is_in_the_list_of_tables(odbc: pyodbc.Connection) -> None:
    """SQLTables: what the navigator of Excel and Power BI shows."""
    found = {(table.table_name, table.table_type) for table in odbc.cursor().tables(schema="bi")}
    assert {(view, "VIEW") for view in VIEWS} <= found


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_is_described(odbc: pyodbc.Connection, reader: Login, view: str) -> None:
    """SQLColumns: names in their order, with Postgres' own types."""
    found = [(column.column_name, column.type_name) for column in odbc.cursor().columns(schema="bi", table=view)]
    assert found == [(column.name, column.kind.jdbc) for column in columns(reader, view)]


def test_comments_are_read_by_a_query(odbc: pyodbc.Connection, reader: Login) -> None:
    """The driver hands on no remarks; the catalogue has them for every reader."""
    found = odbc.execute(_COMMENTS).fetchall()
    assert [(name, comment) for name, comment, _ in found] == [(c.name, c.comment) for c in columns(reader, "jobs")]
    assert all(of_the_view for _, _, of_the_view in found)


@pytest.mark.parametrize("options", [_AS_TOLD, _FETCHING], ids=["as told", "fetching"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_value_arrives_in_its_type(reader: Login, view: str, options: str) -> None:
    """Times as times, numbers as numbers, texts with all their characters: what psycopg reads; in portions too."""
    wanted = columns(reader, view)
    connection = connected(reader, options)
    cursor = connection.execute(all_of(view))
    assert [(name, kind) for name, kind, *_ in cursor.description] == [(c.name, c.kind.python) for c in wanted]
    names = [column.name for column in wanted]
    found = cursor.fetchall()
    connection.close()
    assert found
    assert comparable(names, found) == comparable(names, rows(reader, view))


def test_texts_of_all_the_world_are_there(odbc: pyodbc.Connection) -> None:
    """What comes intact above is not just ASCII."""
    texts = "".join(str(value) for row in odbc.execute(all_of("jobs")) for value in row)
    assert all(letter in texts for letter in "ñ送👕")


def test_a_filter_with_parameters_asks_postgres(odbc: pyodbc.Connection, reader: Login) -> None:
    """A span of created_at_utc, as a parametrised query of Excel hands it over."""
    [[newest]] = odbc.execute("SELECT max(created_at_utc) FROM bi.jobs").fetchall()
    span = (newest - timedelta(days=7), newest)
    query = "SELECT count(*) FROM bi.jobs WHERE created_at_utc >= ? AND created_at_utc < ?"
    [[found]] = odbc.execute(query, span).fetchall()
    with psycopg.connect(reader.url) as db:
        assert (found,) == db.execute(query.replace("?", "%s").encode(), span).fetchone()
    assert 0 < found < 400


def test_links_are_refused_to_readers_and_given_to_whom_they_were_granted(
    odbc: pyodbc.Connection, link_reader: Login
) -> None:
    """Listed they may be, the driver doesn't ask for rights; read they can't be."""
    with pytest.raises(pyodbc.Error, match=f"permission denied for view {LINKS}"):
        odbc.execute(all_of(LINKS))
    allowed = connected(link_reader)
    assert allowed.execute(all_of(LINKS)).fetchone()
    allowed.close()


def test_a_tenant_sees_its_own_account_in_every_view(reader: Login, tenant: Login) -> None:
    """Whatever its tool asks for; the others' numbers are in no total either."""
    connection = connected(tenant)
    of_accounts = [view for view in VIEWS if "account_code" in {column.name for column in columns(reader, view)}]
    assert {"jobs", "job_daily", "job_documents"} <= set(of_accounts)
    for view in of_accounts:
        found = connection.execute(all_of(view)).fetchall()
        assert {row.account_code for row in found} == {TENANT}, view
    connection.close()


@pytest.mark.parametrize("table", ["aims360.jobs", "aims360.job_documents", "etl.runs", "etl.rejects"])
def test_nothing_but_bi_is_readable(odbc: pyodbc.Connection, table: str) -> None:
    """Neither the mirror nor the ledger."""
    with pytest.raises(pyodbc.Error, match="permission denied"):
        odbc.execute("TABLE " + table)
