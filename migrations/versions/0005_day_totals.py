"""Day totals of the jobs that are here; what a job's documents and reruns come to; who sees which accounts.

Tables that are updated in place leave room for it on their pages, and are vacuumed before a fiftieth of them is dead.
`migrate` counts the totals when it has written the definitions that they follow.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_COUNT_DOCUMENTS = """
UPDATE aims360.jobs AS j
SET documents = d.documents
FROM (SELECT source_id, job_id, count(*) AS documents FROM aims360.job_documents GROUP BY source_id, job_id) AS d
WHERE j.source_id = d.source_id AND j.job_id = d.job_id
"""
_TELL_DOCUMENTS = """
UPDATE aims360.job_documents AS d
SET available_until = CASE WHEN j.purged_at IS NULL THEN least(d.expiry_date, j.purge_date_time) END,
    account_code = j.account_code
FROM aims360.jobs AS j
WHERE j.source_id = d.source_id AND j.job_id = d.job_id
"""
_CREATED_AT_UTC = "timezone('UTC', created_date)"
# How few jobs were run again, without which Postgres takes them for a third of all.
_COUNT_RERUNS = """
CREATE STATISTICS aims360.jobs_reruns ON (coalesce(number_of_attempts, reruns_seen, 0)) FROM aims360.jobs
"""
_TEXTS = ("account_code", "category_name", "sub_category_name", "job_status")


def upgrade() -> None:
    for name in ("documents", "reruns_seen"):
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"), schema="aims360")
    for name in ("start_date", "completed_date"):
        op.add_column("job_status_history", sa.Column(name, sa.DateTime(timezone=True)), schema="aims360")
    op.add_column("job_documents", sa.Column("available_until", sa.DateTime(timezone=True)), schema="aims360")
    op.add_column("job_documents", sa.Column("account_code", sa.Text()), schema="aims360")
    for name in ("jobs_created", "jobs_account", "jobs_category", "jobs_status"):
        op.drop_index(name, "jobs", schema="aims360")  # before each row is written anew
    op.execute(_COUNT_DOCUMENTS)
    op.execute(_TELL_DOCUMENTS)
    _live_daily()
    _account_access()
    _indexes()
    _room_for_updates()


def _live_daily() -> None:
    op.execute("CREATE TABLE aims360.live_daily (LIKE aims360.purged_daily INCLUDING DEFAULTS)")
    key = [sa.text(f"coalesce({name}, '')") for name in _TEXTS]
    key = [sa.text("source_id"), sa.text("coalesce(day, '-infinity'::date)"), *key]
    op.create_index("live_daily_key", "live_daily", key, unique=True, schema="aims360")


def _account_access() -> None:
    op.create_table(
        "account_access",
        sa.Column("role_name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("account_code", sa.Text()),
        sa.CheckConstraint("source <> '' AND account_code <> ''", name="account_access_is_named"),
        schema="bi",
    )
    key = [sa.text(part) for part in ("role_name", "coalesce(source, '')", "coalesce(account_code, '')")]
    op.create_index("account_access_key", "account_access", key, unique=True, schema="bi")


def _indexes() -> None:
    created = sa.text(_CREATED_AT_UTC)
    for name, column, included in (
        ("jobs_created", None, ["account_code"]),
        ("jobs_account", "account_code", ["category_name", "sub_category_name", "job_status"]),
        ("jobs_status", "job_status", ["account_code", "category_name", "sub_category_name"]),
    ):
        op.create_index(
            name,
            "jobs",
            [*([sa.text(column)] if column else []), created],
            schema="aims360",
            postgresql_include=["created_date", "source_id", *included],
        )
    op.create_index(
        "jobs_rerun",
        "jobs",
        [created],
        schema="aims360",
        postgresql_where=sa.text("coalesce(number_of_attempts, reruns_seen, 0) > 0"),
    )
    op.execute(_COUNT_RERUNS)
    op.create_index(
        "job_documents_until",
        "job_documents",
        [sa.text("timezone('UTC', available_until)")],
        schema="aims360",
        postgresql_include=["available_until", "source_id", "job_id", "account_code", "size_in_mb"],
    )
    for table in ("live_daily", "purged_daily"):
        op.create_index(f"{table}_day", table, ["day"], schema="aims360")


def _room_for_updates() -> None:
    often = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05"
    op.execute(f"ALTER TABLE aims360.jobs SET (fillfactor = 90, {often}, autovacuum_analyze_scale_factor = 0.02)")
    for table in ("aims360.job_documents", "aims360.job_status_history"):
        op.execute(f"ALTER TABLE {table} SET ({often})")
    for table in ("aims360.live_daily", "aims360.purged_daily", "etl.sources", "etl.scans", "etl.runs"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1)")
