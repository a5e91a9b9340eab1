"""What BI tools typically ask of each view, and how much may be read for it: timed by the bench, held by a test.

A tile, a filtered list, a job that somebody looks for. The parameters are `GIVEN`'s: a job, an account, a week before
the newest job, a day before it, and a week after the first document that will be gone.
"""

from dataclasses import dataclass

_MONTH = "(now() AT TIME ZONE 'UTC') - interval '30 days'"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a view.

    `share`: of the mirror's jobs and documents, how many rows may be read at most; `heap`: of these, from the tables
    themselves, and not from an index that says all. 0 stands for the few rows of one job.
    """

    view: str
    what: str
    statement: str
    share: float = 0.0
    heap: float = 0.0

    @property
    def is_of_one_job(self) -> bool:
        """Whether it names a job."""
        return "%(job)s" in self.statement


GIVEN = """
SELECT
    j.job_id AS job,
    j.account_code AS account,
    (SELECT max(created_date) FROM aims360.jobs) AT TIME ZONE 'UTC' - interval '7 days' AS week,
    (SELECT max(created_date) FROM aims360.jobs) AT TIME ZONE 'UTC' - interval '1 day' AS day,
    (SELECT min(available_until) FROM aims360.job_documents WHERE available_until > now()) AT TIME ZONE 'UTC'
        + interval '7 days' AS soon
FROM aims360.jobs AS j
WHERE j.account_code = 'AZ031'
LIMIT 1
"""
TYPICAL = (
    Asked("jobs", "a job by its id", "SELECT * FROM bi.jobs WHERE job_id = %(job)s"),
    Asked(
        "jobs",
        "last 30 days by day",
        f"SELECT created_at_utc::date, count(*) FROM bi.jobs WHERE created_at_utc >= {_MONTH} GROUP BY 1",
        share=1.1,
    ),
    Asked(
        "jobs",
        "one account, last 30 days by status",
        f"""SELECT job_status, count(*) FROM bi.jobs
        WHERE account_code = %(account)s AND created_at_utc >= {_MONTH} GROUP BY 1""",
        share=0.3,
    ),
    Asked(
        "jobs",
        "one account, a day's rows",
        "SELECT * FROM bi.jobs WHERE account_code = %(account)s AND created_at_utc >= %(day)s LIMIT 1000",
        share=0.05,
        heap=0.05,
    ),
    Asked(
        "jobs",
        "failures of 30 days by category",
        f"""SELECT category_name, sub_category_name, count(*) FROM bi.jobs
        WHERE job_status = 'Failed' AND created_at_utc >= {_MONTH} GROUP BY 1, 2""",
        share=0.1,
    ),
    Asked("jobs", "what is stuck", "SELECT * FROM bi.jobs WHERE is_stuck", share=0.01, heap=0.01),
    Asked(
        "job_daily",
        "last 30 days by day",
        "SELECT day, sum(jobs), sum(failed) FROM bi.job_daily WHERE day >= current_date - 30 GROUP BY 1",
    ),
    Asked(
        "job_daily",
        "one account, failure rate by category",
        """SELECT category_name, bi.failure_rate(sum(failed), sum(ended)) FROM bi.job_daily
        WHERE account_code = %(account)s GROUP BY 1""",
    ),
    Asked("category_health", "all of it", "SELECT * FROM bi.category_health"),
    Asked("job_documents", "one job's", "SELECT * FROM bi.job_documents WHERE job_id = %(job)s"),
    Asked(
        "documents_expiring",
        "a week's by account and day",
        """SELECT account_code, available_until_utc::date, count(*), sum(size_in_mb) FROM bi.documents_expiring
        WHERE available_until_utc < %(soon)s GROUP BY 1, 2""",
        share=0.4,
    ),
    Asked(
        "documents_expiring",
        "one account, rows of a day",
        """SELECT * FROM bi.documents_expiring
        WHERE account_code = %(account)s AND available_until_utc < %(soon)s - interval '6 days' LIMIT 1000""",
        share=0.1,
        heap=0.1,
    ),
    Asked("document_archive", "one job's", "SELECT * FROM bi.document_archive WHERE job_id = %(job)s"),
    Asked("job_status_history", "one job's", "SELECT * FROM bi.job_status_history WHERE job_id = %(job)s"),
    Asked("job_attempts", "one job's", "SELECT * FROM bi.job_attempts WHERE job_id = %(job)s"),
    Asked(
        "job_attempts",
        "a week's reruns by category and outcome",
        """SELECT category_name, job_status, count(*) FROM bi.job_attempts
        WHERE attempt > 0 AND created_at_utc >= %(week)s GROUP BY 1, 2""",
        share=1.1,
        heap=1.1,
    ),
    Asked("job_links", "one job's", "SELECT * FROM bi.job_links WHERE job_id = %(job)s"),
    Asked("freshness", "all of it", "SELECT * FROM bi.freshness"),
    Asked("runs", "the last hundred", "SELECT * FROM bi.runs ORDER BY run_id DESC LIMIT 100"),
    Asked("calendar", "this year", "SELECT * FROM bi.calendar WHERE year = 2026"),
)
