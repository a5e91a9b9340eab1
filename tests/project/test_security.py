"""SECURITY.md says what the code does: tables, secret and personal columns, roles, the shape of an erasure."""

import re

import pytest

from etl.config.settings import SETTINGS
from etl.load.erase import Erased
from etl.postgres.package_data import folder
from etl.postgres.tables import metadata
from tests.support.paths import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| `")]
OURS = ("alembic_version", "definitions")  # revision and digest


def row_of(table: str) -> str:
    """The line of the table of tables that tells of one."""
    [row] = [row for row in ROWS if f"`{table}`" in row.split("|")[1]]
    return row


@pytest.mark.parametrize("table", sorted(name for name in metadata.tables if not name.endswith(OURS)))
def test_every_table_and_its_delicate_columns_are_told(table: str) -> None:
    """What a comment calls secret or personal, and what may hold links, stands in the row of its table."""
    row = row_of(table)
    for column in metadata.tables[table].columns:
        if re.search(r"; secret|personal|links; no BI|free text|not JSON|JSON other|doesn't know", str(column.comment)):
            assert f"`{column.name}`" in row, column.name


def test_what_a_scrub_removes_is_told() -> None:
    """Whatever is thought worth removing at the purge is something to know of."""
    scrubbed = re.findall(r"(\w+) = NULL", (ROOT / "etl" / "load" / "purge.py").read_text("utf-8"))
    told = row_of("aims360.jobs") + row_of("aims360.job_documents")
    assert len(scrubbed) > 10
    assert {column for column in scrubbed if f"`{column}`" not in told} == {"available_until", "purged_at"}


def test_every_role_is_told() -> None:
    """Those that the SQL makes, and what a writer only reads."""
    made = "".join((folder("sql") / name).read_text("utf-8") for name in ("roles.sql", "writer.sql"))
    for role in re.findall(r"CREATE ROLE (\w+)", made):
        assert f"`{role}`" in TEXT
    [kept] = re.findall(r"REVOKE INSERT, UPDATE, DELETE\nON (.*)\nFROM aims360_writer", made)
    assert all(f"`{table}`" in TEXT for table in kept.split(", "))


def test_what_an_erasure_leaves_is_told() -> None:
    """The log's table has a column for each count."""
    logged = {column.name for column in metadata.tables["etl.erasures"].columns}
    assert set(Erased.__dataclass_fields__) - {"files", "left"} <= logged
    assert any(setting.name == "…_FILE" for setting in SETTINGS)
    assert "_FILE" in TEXT
