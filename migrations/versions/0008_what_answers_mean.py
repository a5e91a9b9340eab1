"""What the service refuses and what of it can't be read: state for asking again, smaller pages and refused sign-ins.

Nothing is rewritten: the new columns have constant defaults, and the new table is empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    _sign_in()
    _smaller_pages()
    _asking_again()
    op.add_column("runs", sa.Column("request_id", sa.Text()), schema="etl")


def _sign_in() -> None:
    failures = sa.Column("sign_in_failures", sa.Integer(), nullable=False, server_default="0")
    op.add_column("sources", failures, schema="etl")
    op.add_column("sources", sa.Column("sign_in_not_before", sa.DateTime(timezone=True)), schema="etl")
    op.add_column("sources", sa.Column("sign_in_hash", sa.Text()), schema="etl")


def _smaller_pages() -> None:
    op.add_column("scans", sa.Column("page_size", sa.Integer()), schema="etl")
    op.add_column("scans", sa.Column("narrowed", sa.Boolean(), nullable=False, server_default="false"), schema="etl")


def _asking_again() -> None:
    for name in ("key_name", "key_after", "key_before"):
        op.add_column("rejects", sa.Column(name, sa.Text()), schema="etl")
    for column in _schedule():
        op.add_column("rejects", column, schema="etl")
    missing = sa.Column("times_missing", sa.Integer(), nullable=False, server_default="0")
    op.add_column("rejects", missing, schema="etl")
    op.create_table(
        "unread_values",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("property", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        *_schedule(),
        sa.PrimaryKeyConstraint("source_id", "job_id", "property", name="unread_values_pkey"),
        schema="etl",
    )


def _schedule() -> list[sa.Column[object]]:
    """Return the columns that say when the source is asked again."""
    return [
        sa.Column("times_asked", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("runs_to_wait", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("asked_at", sa.DateTime(timezone=True)),
    ]
