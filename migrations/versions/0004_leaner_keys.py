"""A comparison remembers its keys by the page; no index but the primary key can answer for a job's key."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0004"
down_revision = "0003"

# Comparisons that are under way go on: a thousand of their keys make a page.
_TAKE_OVER = """
INSERT INTO etl.compared (source_id, opened_by, is_old, job_ids)
SELECT source_id, opened_by, is_old, array_agg(job_id)
FROM (
    SELECT *, row_number() OVER (PARTITION BY source_id, opened_by ORDER BY job_id) / 1000 AS page
    FROM etl.compared_before
) AS keys
GROUP BY source_id, opened_by, is_old, page
"""


def upgrade() -> None:
    _compared()
    _indexes()


def _indexes() -> None:
    for name, columns in (
        ("jobs_created", []),
        ("jobs_status", ["job_status"]),
        ("jobs_category", ["category_name"]),
        ("jobs_account", ["account_code"]),
    ):
        op.drop_index(name, "jobs", schema="aims360")
        op.create_index(name, "jobs", [*columns, sa.text("timezone('UTC', created_date)")], schema="aims360")


def _compared() -> None:
    op.rename_table("compared", "compared_before", schema="etl")
    op.execute("ALTER INDEX etl.compared_pkey RENAME TO compared_before_pkey")
    op.create_table(
        "compared",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("opened_by", sa.BigInteger(), nullable=False),
        sa.Column("page", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("is_old", sa.Boolean(), nullable=False),
        sa.Column("job_ids", ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "opened_by", "page"),
        schema="etl",
    )
    # Keys that begin with a random GUID don't get shorter by trying.
    op.execute("ALTER TABLE etl.compared ALTER COLUMN job_ids SET STORAGE EXTERNAL")
    op.execute(_TAKE_OVER)
    op.drop_table("compared_before", schema="etl")
