"""Indexes on what `bi` shows; an open scan keeps its progress; `migrate` remembers which views it wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_CREATED_AT_UTC = "timezone('UTC', created_date)"


def upgrade() -> None:
    for name in ("jobs_created", "jobs_modified", "jobs_status", "jobs_category", "jobs_account"):
        op.drop_index(name, "jobs", schema="aims360")
    for name, columns in (
        ("jobs_created", []),
        ("jobs_status", ["job_status"]),
        ("jobs_category", ["category_name"]),
        ("jobs_account", ["account_code"]),
    ):
        op.create_index(name, "jobs", ["source_id", *columns, sa.text(_CREATED_AT_UTC)], schema="aims360")
    for column in (
        sa.Column("flatten_version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("expected", sa.BigInteger()),
        sa.Column("done", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("scans", column, schema="etl")
    op.alter_column("scans", "cursors", type_=sa.JSON(), postgresql_using="cursors::json", schema="etl")
    op.create_table("definitions", sa.Column("digest", sa.Text(), nullable=False), schema="etl")
