"""The mirror and the pipeline's own tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_BOUNDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


def _histogram(what: str) -> list[sa.Column[Any]]:
    names = [f"{what}_count", f"{what}_seconds", *(f"{what}_le_{bound}" for bound in _BOUNDS)]
    kinds: list[Any] = [sa.Numeric() if name.endswith("_seconds") else sa.BigInteger() for name in names]
    return [sa.Column(n, k, nullable=False, server_default="0") for n, k in zip(names, kinds, strict=True)]


def upgrade() -> None:
    for schema in ("aims360", "bi"):  # etl is made before, for Alembic's own table
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    _jobs()
    _job_documents()
    _job_status_history()
    _purged_jobs()
    _purged_daily()
    _sources()
    _runs()
    _scans()
    _rejects()


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger()),
        sa.Column("job_category_id", sa.Integer()),
        sa.Column("category_name", sa.Text()),
        sa.Column("job_sub_category_id", sa.Integer()),
        sa.Column("sub_category_name", sa.Text()),
        sa.Column("job_description", sa.Text()),
        sa.Column("client_request_id", sa.Text()),
        sa.Column("job_status", sa.Text()),
        sa.Column("job_status_text", sa.Text()),
        sa.Column("percent_completed", sa.Integer()),
        sa.Column("response_type", sa.Text()),
        sa.Column("publish_link", sa.Text()),
        sa.Column("publish_link_access_scope", sa.Text()),
        sa.Column("request_url", sa.Text()),
        sa.Column("start_date", _TIME),
        sa.Column("completed_date", _TIME),
        sa.Column("created_date", _TIME),
        sa.Column("modified_date", _TIME),
        sa.Column("purge_date_time", _TIME),
        sa.Column("purge_days", sa.Integer()),
        sa.Column("client_id", sa.Text()),
        sa.Column("database_name", sa.Text()),
        sa.Column("account_code", sa.Text()),
        sa.Column("can_rerun", sa.Boolean()),
        sa.Column("can_publish", sa.Boolean()),
        sa.Column("maximum_date_time_to_execute_job", _TIME),
        sa.Column("number_of_attempts", sa.Integer()),
        sa.Column("created_by", sa.Text()),
        sa.Column("modified_by", sa.Text()),
        sa.Column("row_version", sa.BigInteger()),
        sa.Column("response_json", JSONB()),
        sa.Column("response_text", sa.Text()),
        sa.Column("extra", JSONB()),
        sa.Column("synced_at", _TIME, nullable=False),
        sa.Column("purged_at", _TIME),
        sa.PrimaryKeyConstraint("source_id", "job_id"),
        schema="aims360",
    )
    op.create_index("jobs_account", "jobs", ["source_id", "account_code", "created_date"], schema="aims360")
    op.create_index("jobs_category", "jobs", ["source_id", "category_name", "created_date"], schema="aims360")
    op.create_index("jobs_created", "jobs", ["source_id", "created_date"], schema="aims360")
    op.create_index("jobs_modified", "jobs", ["source_id", "modified_date"], schema="aims360")
    op.create_index(
        "jobs_purge",
        "jobs",
        ["source_id", "purge_date_time"],
        schema="aims360",
        postgresql_where=sa.text("purged_at IS NULL"),
    )
    op.create_index("jobs_status", "jobs", ["source_id", "job_status", "created_date"], schema="aims360")


def _job_documents() -> None:
    op.create_table(
        "job_documents",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("document_name", sa.Text()),
        sa.Column("download_link", sa.Text()),
        sa.Column("size_in_mb", sa.Numeric()),
        sa.Column("type", sa.Text()),
        sa.Column("document_id", sa.Text()),
        sa.Column("expiry_date", _TIME),
        sa.Column("version", sa.Text()),
        sa.Column("extra", JSONB()),
        sa.PrimaryKeyConstraint("source_id", "job_id", "position"),
        sa.ForeignKeyConstraint(["source_id", "job_id"], ["aims360.jobs.source_id", "aims360.jobs.job_id"]),
        schema="aims360",
    )


def _job_status_history() -> None:
    op.create_table(
        "job_status_history",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("history_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_status", sa.Text()),
        sa.Column("percent_completed", sa.Integer()),
        sa.Column("number_of_attempts", sa.Integer()),
        sa.Column("modified_date", _TIME),
        sa.Column("row_version", sa.BigInteger()),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("not_seen_before", _TIME),
        sa.PrimaryKeyConstraint("source_id", "job_id", "history_id"),
        schema="aims360",
    )


def _purged_jobs() -> None:
    op.create_table(
        "purged_jobs",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("row_version", sa.BigInteger()),
        sa.Column("purge_date_time", _TIME),
        sa.Column("purged_at", _TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("day", sa.Date()),
        sa.Column("account_code", sa.Text()),
        sa.Column("category_name", sa.Text()),
        sa.Column("sub_category_name", sa.Text()),
        sa.Column("job_status", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("documents", sa.Integer(), nullable=False),
        sa.Column("queued_seconds", sa.Numeric()),
        sa.Column("run_seconds", sa.Numeric()),
        sa.PrimaryKeyConstraint("source_id", "job_id"),
        schema="aims360",
    )


def _purged_daily() -> None:
    op.create_table(
        "purged_daily",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("day", sa.Date()),
        sa.Column("account_code", sa.Text()),
        sa.Column("category_name", sa.Text()),
        sa.Column("sub_category_name", sa.Text()),
        sa.Column("job_status", sa.Text()),
        sa.Column("jobs", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("attempts", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("documents", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        *_histogram("queued"),
        *_histogram("run"),
        schema="aims360",
    )
    op.create_index(
        "purged_daily_key",
        "purged_daily",
        [
            "source_id",
            sa.text("COALESCE(day, '-infinity'::date)"),
            sa.text("COALESCE(account_code, ''::text)"),
            sa.text("COALESCE(category_name, ''::text)"),
            sa.text("COALESCE(sub_category_name, ''::text)"),
            sa.text("COALESCE(job_status, ''::text)"),
        ],
        schema="aims360",
        unique=True,
    )


def _sources() -> None:
    op.create_table(
        "sources",
        sa.Column("source_id", sa.SmallInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("client_ids", ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("unknown_properties", ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("flatten_version", sa.Integer(), nullable=False),
        sa.Column("purge_mode", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("watermark", _TIME),
        sa.Column("complete_through", _TIME),
        sa.Column("purge_asked_at", _TIME),
        sa.PrimaryKeyConstraint("source_id"),
        sa.UniqueConstraint("name"),
        schema="etl",
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text()),
        sa.Column("window_from", _TIME),
        sa.Column("window_to", _TIME),
        sa.Column("as_of", _TIME),
        sa.Column("watermark_before", _TIME),
        sa.Column("watermark_after", _TIME),
        sa.Column("pages", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("requests", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("inserted", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("updated", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("unchanged", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("refused", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("skipped", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("returned", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("rejected", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("duplicates", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("unversioned", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("replaced_characters", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("purged", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("run_id"),
        schema="etl",
    )
    op.create_index("runs_source", "runs", ["source_id", "run_id"], schema="etl")
    op.create_index(
        "runs_running", "runs", ["source_id"], schema="etl", postgresql_where=sa.text("outcome = 'running'")
    )


def _scans() -> None:
    op.create_table(
        "scans",
        sa.Column("source_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("window_from", _TIME),
        sa.Column("window_to", _TIME),
        sa.Column("as_of", _TIME, nullable=False),
        sa.Column("rewrite", sa.Boolean(), nullable=False),
        sa.Column("opaque", sa.Boolean(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("cursors", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("source_id"),
        schema="etl",
    )


def _rejects() -> None:
    op.create_table(
        "rejects",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("purge_date_time", _TIME),
        sa.Column("first_seen_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("source_id", "job_id"),
        schema="etl",
    )
