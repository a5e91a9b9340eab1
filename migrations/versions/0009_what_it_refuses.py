"""What the service refuses: what each source's service supports, how its scans ask, and jobs that a comparison lacked.

All new columns have constant defaults, and the new table is empty: nothing is rewritten. What an open scan lacks of
them is as it was before, in the order of its key.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for column in (
        sa.Column("capabilities", JSONB(), nullable=False, server_default="{}"),
        sa.Column("paging", sa.Text(), nullable=False, server_default="key"),
        sa.Column("window_by", sa.Text(), nullable=False, server_default="modifiedDate"),
    ):
        op.add_column("sources", column, schema="etl")
    op.add_column("scans", sa.Column("is_ordered", sa.Boolean(), nullable=False, server_default="true"), schema="etl")
    op.add_column("scans", sa.Column("latest", sa.DateTime(timezone=True)), schema="etl")
    op.create_table(
        "unseen_jobs",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("unseen_since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "job_id", name="unseen_jobs_pkey"),
        schema="etl",
    )
