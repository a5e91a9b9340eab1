"""Documents that were fetched before they went, and a log of what was erased on request.

Both are new and empty: nothing is rewritten, and no reader waits.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    _document_archive()
    _erasures()


def _document_archive() -> None:
    op.create_table(
        "document_archive",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("archive_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("position", sa.Integer()),
        sa.Column("document_name", sa.Text()),
        sa.Column("account_code", sa.Text()),
        sa.Column("link_sha256", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "job_id", "archive_id", name="document_archive_pkey"),
        schema="aims360",
    )
    key = ["source_id", "job_id", "link_sha256", "path"]
    op.create_index("document_archive_key", "document_archive", key, unique=True, schema="aims360")


def _erasures() -> None:
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("source_id", sa.SmallInteger()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account_code", sa.Text()),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_by", sa.Text(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("names", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("documents", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("rejects", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("archived", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("erasure_id", name="erasures_pkey"),
        schema="etl",
    )
