"""Which outputs can be had: chosen from the mirror, by the jobs that made them and by when they go."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from msgspec import Struct

from etl.config.secrets import Secret
from etl.errors import ConfigError
from etl.postgres.connection import Connection, text_array
from etl.state import source_state

# The outputs of completed jobs: documents, and the publishLink where no document has it. Until when documents can
# be had is asked as their index has it, so that a schedule's call reads what is gone soon, and no more.
_CHOOSE = """
WITH chosen AS NOT MATERIALIZED (
    SELECT *
    FROM aims360.jobs
    WHERE source_id = %(source_id)s
      AND job_status = 'Completed'
      AND purged_at IS NULL
      AND (%(jobs)s::text[] IS NULL OR job_id = ANY (%(jobs)s::text[]))
      AND (%(categories)s::text[] IS NULL OR lower(category_name) = ANY (%(categories)s::text[])
           OR lower(sub_category_name) = ANY (%(categories)s::text[]))
      AND (%(accounts)s::text[] IS NULL OR account_code = ANY (%(accounts)s::text[]))
      AND (%(since)s::timestamptz IS NULL OR created_date >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR created_date <= %(until)s::timestamptz)
),
outputs AS (
    SELECT c.job_id, d.position, coalesce(d.document_name, 'document' || coalesce(d.type, '')) AS name,
           coalesce(d.type, substring(d.document_name FROM '\\.[^.]*$')) AS kind, d.download_link AS link, d.size_in_mb,
           c.account_code, c.publish_link_access_scope AS scope, c.created_date, d.available_until
    FROM chosen AS c
    JOIN aims360.job_documents AS d ON d.source_id = c.source_id AND d.job_id = c.job_id
    WHERE d.download_link IS NOT NULL
      AND (d.available_until IS NULL OR d.available_until > %(now)s)
      AND (%(before)s::timestamp IS NULL OR timezone('UTC', d.available_until) <= %(before)s::timestamp)
    UNION ALL
    SELECT c.job_id, NULL, coalesce(c.sub_category_name, 'output'), NULL, c.publish_link, NULL,
           c.account_code, c.publish_link_access_scope, c.created_date, c.purge_date_time
    FROM chosen AS c
    WHERE c.publish_link IS NOT NULL
      AND (c.purge_date_time IS NULL OR c.purge_date_time > %(now)s)
      AND (%(before)s::timestamp IS NULL OR c.purge_date_time <= timezone('UTC', %(before)s::timestamp))
      AND NOT EXISTS (
          SELECT FROM aims360.job_documents AS d
          WHERE d.source_id = c.source_id AND d.job_id = c.job_id AND d.download_link = c.publish_link
      )
)
SELECT job_id, position, name, kind, link, size_in_mb::float8, account_code, scope, created_date
FROM outputs
ORDER BY available_until, job_id, position
"""
# A rerun replaces the outputs, and nobody says that their links must change: what was fetched before the job completed
# last is another output.
_KEPT = """
SELECT a.job_id, a.position, a.link_sha256, a.path, a.bytes
FROM aims360.document_archive AS a
LEFT JOIN aims360.jobs AS j USING (source_id, job_id)
WHERE a.source_id = %(source_id)s
  AND a.job_id = ANY (%(jobs)s::text[])
  AND (a.fetched_at < j.completed_date) IS NOT TRUE
"""


class Wish(Struct, frozen=True):
    """Which outputs. Texts are alternatives to each other; None, and an empty tuple, are all."""

    jobs: tuple[str, ...] = ()  # ids, or unique beginnings of them
    categories: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    since: datetime | None = None  # of the job's creation
    until: datetime | None = None
    gone_within: timedelta | None = None


class Output(NamedTuple):
    """A file that can be had. `position` is None for the job's publishLink; `kind` is the file's ending."""

    job_id: str
    position: int | None
    name: str
    kind: str | None
    link: Secret
    size_in_mb: float | None
    account: str | None
    scope: str | None
    created: datetime | None

    @property
    def key(self) -> tuple[str, int | None, str]:
        """What tells it from others; of the link a digest is remembered."""
        return self.job_id, self.position, sha256(self.link.reveal().encode()).hexdigest()


Recorded = dict[tuple[str, int | None, str], list[tuple[str, int]]]


class Share(Struct, frozen=True):
    """An account's part of what would be fetched. `mb` is the source's word, which `unsized` outputs lack."""

    account: str | None
    outputs: int
    mb: float
    unsized: int


def source_id(db: Connection, name: str) -> int:
    """The number of a source. Raises ConfigError where nothing was synced of it."""
    state = source_state.find(db, name)
    if state is None:
        raise ConfigError(f"nothing was synced of {name!r} yet, so there is nothing to fetch; run `aims360-etl sync`")
    return state.source_id


def choose(db: Connection, source_id: int, wish: Wish, now: datetime) -> list[Output]:
    """The outputs that can still be had, those first that are gone first."""
    given = {
        "source_id": source_id,
        "jobs": [*wish.jobs] or None,
        "categories": [name.lower() for name in wish.categories] or None,
        "accounts": [*wish.accounts] or None,
        "since": wish.since,
        "until": wish.until,
        "now": now,
        "before": None if wish.gone_within is None else (now + wish.gone_within).astimezone(UTC).replace(tzinfo=None),
    }
    rows = db.execute(_CHOOSE, given).fetchall()
    return [Output(*row[:4], Secret(str(row[4])), *row[5:]) for row in rows]  # type: ignore[arg-type, call-arg]


def recorded(db: Connection, source_id: int, outputs: Sequence[Output]) -> Recorded:
    """Which of these outputs were kept since their jobs completed, wherever: path and size, by `Output.key`."""
    jobs = text_array({output.job_id for output in outputs})
    found: Recorded = {}
    for job_id, position, link, path, size in db.execute(_KEPT, {"source_id": source_id, "jobs": jobs}).fetchall():
        key = str(job_id), position if isinstance(position, int) else None, str(link)
        found.setdefault(key, []).append((str(path), int(str(size))))
    return found


def shares_of(outputs: Sequence[Output]) -> list[Share]:
    """How many, how large, by account."""
    by_account: dict[str | None, list[Output]] = {}
    for output in outputs:
        by_account.setdefault(output.account, []).append(output)
    return [
        Share(
            account,
            len(theirs),
            round(sum(output.size_in_mb or 0.0 for output in theirs), 2),
            sum(output.size_in_mb is None for output in theirs),
        )
        for account, theirs in sorted(by_account.items(), key=lambda item: item[0] or "")
    ]
