"""What the service refuses and what of it can't be read: state for asking again, smaller pages and refused sign-ins.

The new columns have constant defaults, and the new table is empty. Rows are written where a status isn't spelt as
documented (`InProgress`), and no others: of jobs, their history, tombstones and day totals. All of these tables are
read for that: seconds for a million jobs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_DOCUMENTED = "'Queued', 'Inprogress', 'Completed', 'Failed'"
# Of Latin letters alone, whatever the language of the database.
_SPELT_OTHERWISE = f"""lower(job_status COLLATE "C") IN ({_DOCUMENTED.lower()}) AND job_status NOT IN ({_DOCUMENTED})"""
_AS_DOCUMENTED = """initcap(job_status COLLATE "C")"""  # each is one word
_SPELL = "UPDATE aims360.{table} SET job_status = {as_documented} WHERE {spelt_otherwise}"
_GROUP = ("source_id", "day", "account_code", "category_name", "sub_category_name")
_BOUNDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_TIMES = ("count", "seconds", *(f"le_{bound}" for bound in _BOUNDS))
_COUNTERS = ("jobs", "attempts", "documents", *(f"{what}_{of}" for what in ("queued", "run") for of in _TIMES))
# What was counted under another spelling is added to what was counted under the documented one.
_ADD_UP = """
INSERT INTO aims360.{table} AS d ({group}, job_status, {counters})
SELECT {group}, {as_documented}, {sums}
FROM aims360.{table}
WHERE {spelt_otherwise}
GROUP BY {group}, {as_documented}
ON CONFLICT (
    source_id, coalesce(day, '-infinity'), coalesce(account_code, ''), coalesce(category_name, ''),
    coalesce(sub_category_name, ''), coalesce(job_status, '')
)
DO UPDATE SET {additions}
"""
_DROP = "DELETE FROM aims360.{table} WHERE {spelt_otherwise}"


def upgrade() -> None:
    _sign_in()
    _smaller_pages()
    _asking_again()
    _spell_statuses()
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
    for name, default in (("times_missing", "0"), ("flatten_version", "1")):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default=default)
        op.add_column("rejects", column, schema="etl")
    op.create_table(
        "unread_values",
        sa.Column("source_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("property", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        *_schedule(),
        sa.Column("settled", sa.Boolean(), nullable=False, server_default="false"),
        sa.PrimaryKeyConstraint("source_id", "job_id", "property", name="unread_values_pkey"),
        schema="etl",
    )
    since = sa.text("coalesce(asked_at, first_seen_at)")
    indexes: tuple[tuple[str, list[str | sa.TextClause], str], ...] = (
        ("waiting", ["source_id", "runs_to_wait"], "NOT settled"),
        ("due", ["source_id", since, "job_id"], "NOT settled AND runs_to_wait <= 0"),
        ("forms", ["source_id", "property", "form"], "NOT settled"),
        ("known_forms", ["source_id", "property", "form"], "settled AND times_asked > 0"),
    )
    for name, columns, where in indexes:
        index = f"unread_values_{name}"
        op.create_index(index, "unread_values", columns, schema="etl", postgresql_where=sa.text(where))
    op.alter_column("compared", "is_old", nullable=True, schema="etl")


def _schedule() -> list[sa.Column[object]]:
    """Return the columns that say when the source is asked again."""
    return [
        sa.Column("times_asked", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("runs_to_wait", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("asked_at", sa.DateTime(timezone=True)),
    ]


def _spell_statuses() -> None:
    """Bring stored statuses to the documented spelling; the history of a job keeps a row per version seen."""
    words = {
        "spelt_otherwise": _SPELT_OTHERWISE,
        "as_documented": _AS_DOCUMENTED,
        "group": ", ".join(_GROUP),
        "counters": ", ".join(_COUNTERS),
        "sums": ", ".join(f"sum({name})" for name in _COUNTERS),
        "additions": ", ".join(f"{name} = d.{name} + excluded.{name}" for name in _COUNTERS),
    }
    for table in ("jobs", "job_status_history", "purged_jobs"):
        op.execute(_SPELL.format(table=table, **words))
    for table in ("purged_daily", "live_daily"):
        op.execute(_ADD_UP.format(table=table, **words))
        op.execute(_DROP.format(table=table, **words))
