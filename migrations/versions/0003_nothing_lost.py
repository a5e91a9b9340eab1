"""Deep passes and comparisons with cursors of their own; what a run checked, found and repaired; a shorter ledger."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)
_FOUND = ("missing", "stale", "ghosts_purged", "ghosts_early", "ghosts_vanished", "repaired")


def upgrade() -> None:
    _sources()
    _scans()
    _runs()
    op.create_table(
        "compared",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("opened_by", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("is_old", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "opened_by", "job_id"),
        schema="etl",
    )


def _sources() -> None:
    for column in (
        sa.Column("strategy", sa.Text(), nullable=False, server_default="key"),
        sa.Column("highest", JSONB(), nullable=False, server_default="{}"),
        sa.Column("went_back", sa.Text()),
        sa.Column("doubted", _TIME),
        sa.Column("reread_due_at", _TIME),
        sa.Column("reconcile_due_at", _TIME),
    ):
        op.add_column("sources", column, schema="etl")


def _scans() -> None:
    for column in (
        sa.Column("lane", sa.Text(), nullable=False, server_default="sync"),
        sa.Column("opened_by", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("trusting", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("counted", sa.BigInteger()),
    ):
        op.add_column("scans", column, schema="etl")
    op.alter_column("scans", "lane", server_default=None, schema="etl")
    op.drop_constraint("scans_pkey", "scans", schema="etl")
    op.create_primary_key("scans_pkey", "scans", ["source_id", "lane"], schema="etl")


def _runs() -> None:
    for name in _FOUND:
        op.add_column(
            "runs", sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")), schema="etl"
        )
    for column in (
        sa.Column("strategy", sa.Text()),
        sa.Column("checks", ARRAY(sa.Text()), nullable=False, server_default="{}"),
        sa.Column("notes", ARRAY(sa.Text()), nullable=False, server_default="{}"),
        sa.Column("runs", sa.Integer(), nullable=False, server_default=sa.text("1")),
    ):
        op.add_column("runs", column, schema="etl")
