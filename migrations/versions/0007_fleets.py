"""Many sources: what each is set to, kept in the database; how often each failed in a row; keys that lead by source.

Nothing is rewritten but the key of the ledger, whose index is made anew: seconds for a million runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    _roster()
    _breaker()
    _ledger()


def _roster() -> None:
    op.create_table(
        "roster",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("settings", sa.dialects.postgresql.JSONB(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="roster_pkey"),
        sa.CheckConstraint("jsonb_typeof(settings) = 'object'", name="roster_settings_are_keys"),
        schema="etl",
    )
    op.create_table("queue", sa.Column("script", sa.Text(), nullable=False), schema="etl")


def _breaker() -> None:
    for of_which in ("", "deep_"):
        failures = sa.Column(f"{of_which}failures", sa.Integer(), nullable=False, server_default="0")
        op.add_column("sources", failures, schema="etl")
        op.add_column("sources", sa.Column(f"{of_which}not_before", sa.DateTime(timezone=True)), schema="etl")


def _ledger() -> None:
    op.drop_constraint("runs_pkey", "runs", schema="etl", type_="primary")
    op.drop_index("runs_source", "runs", schema="etl")
    op.create_primary_key("runs_pkey", "runs", ["source_id", "run_id"], schema="etl")
