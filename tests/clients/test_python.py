"""psycopg, and pandas over SQLAlchemy: what notebooks, Superset and scripts read with."""

from collections.abc import Iterator

import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa

from tests.clients.expected import LINKS, VIEWS, Login, all_of, columns, rows


@pytest.fixture
def engine(reader: Login) -> Iterator[sa.Engine]:
    """SQLAlchemy's way in for the reader."""
    made = sa.create_engine(sa.make_url(reader.url).set(drivername="postgresql+psycopg"))
    yield made
    made.dispose()


@pytest.mark.parametrize("view", VIEWS)
def test_psycopg_reads_every_column_in_its_type(reader: Login, view: str) -> None:
    """The rows that all other clients are compared with."""
    wanted = columns(reader, view)
    found = rows(reader, view)
    assert found
    for row in found:
        for value, column in zip(row, wanted, strict=True):
            assert value is None or type(value) is column.kind.python, column.name


def test_no_column_goes_untested(reader: Login) -> None:
    """The mirror is as rich as the promise: but for what goes wrong, each column of each view has a value in it."""
    empty = {
        column.name
        for view in VIEWS
        for place, column in enumerate(columns(reader, view))
        if all(row[place] is None for row in rows(reader, view))
    }
    assert empty <= {"went_back", "error", "not_before_utc", "refused"}


@pytest.mark.parametrize("view", VIEWS)
def test_sqlalchemy_knows_every_comment(engine: sa.Engine, reader: Login, view: str) -> None:
    """What Superset writes into a dataset's descriptions when it is made."""
    inspector = sa.inspect(engine)
    assert view in inspector.get_view_names("bi")
    described = [(column["name"], column["comment"]) for column in inspector.get_columns(view, "bi")]
    assert described == [(column.name, column.comment) for column in columns(reader, view)]
    assert inspector.get_table_comment(view, "bi")["text"]


def test_pandas_makes_times_and_numbers_of_them(engine: sa.Engine) -> None:
    """Times are datetime64 without a zone, whole numbers integers, flags booleans: nothing has to be parsed."""
    jobs = pd.read_sql(all_of("jobs"), engine)
    for name in ("created_at_utc", "started_at_utc", "completed_at_utc", "modified_at_utc", "purge_at_utc"):
        assert pd.api.types.is_datetime64_dtype(jobs[name]), name
    assert pd.api.types.is_integer_dtype(jobs["row_version"])
    assert pd.api.types.is_bool_dtype(jobs["is_open"])
    assert pd.api.types.is_numeric_dtype(jobs["run_seconds"].astype(float))
    assert jobs["created_by"].str.contains("ñ").any()


def test_pandas_adds_up_what_may_be_added(engine: sa.Engine) -> None:
    """bi.job_daily is additive: its days sum to the live jobs and those that were purged."""
    daily = pd.read_sql(all_of("job_daily"), engine)
    jobs = pd.read_sql(all_of("jobs"), engine)
    assert daily["jobs"].sum() > len(jobs)


def test_links_are_refused_to_readers_and_given_to_whom_they_were_granted(reader: Login, link_reader: Login) -> None:
    """A member of aims360_bi can't read them, a member of aims360_links can."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=LINKS):
        rows(reader, LINKS)
    assert rows(link_reader, LINKS)
    assert rows(link_reader, "jobs")
