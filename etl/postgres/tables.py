"""The tables, as SQLAlchemy Core: what they hold, and the comments that Postgres shows.

Migrations make the tables; `etl/postgres/migrations.py` writes these comments onto them; a test holds the three
together.
Every key is led by `source_id`. Times are timestamptz; those of the source's rows are the source's own.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

from etl.models import DURATION_BOUNDS

metadata = MetaData()
SCHEMAS = {
    "aims360": "The mirror of AIMS360's background jobs, links and people included.",
    "etl": "The pipeline's own: sources, ledger, open scans, rejects.",
    "bi": "What BI tools and analysts read: documented views, no links.",
}

_Kind = type[TypeEngine[Any]] | TypeEngine[Any]

_TIME = DateTime(timezone=True)
_CREATED_AT_UTC = text("timezone('UTC', created_date)")
_KIND = ("category_name", "sub_category_name", "job_status")
_WHOSE = ("account_code", "category_name", "sub_category_name")


def _column(name: str, kind: _Kind, comment: str) -> Column[object]:
    return Column(name, kind, comment=comment)


def _required(name: str, kind: _Kind, comment: str, default: str | None = None) -> Column[object]:
    return Column(
        name, kind, nullable=False, comment=comment, server_default=None if default is None else text(default)
    )


def _key(name: str, kind: _Kind, comment: str) -> Column[object]:
    return Column(name, kind, primary_key=True, autoincrement=False, comment=comment)


def _source_key() -> Column[object]:
    return _key("source_id", SmallInteger, "the source (etl.sources)")


def _numbered(name: str, kind: _Kind, comment: str) -> Column[object]:
    return Column(name, kind, Identity(always=True), primary_key=True, comment=comment)


def _histogram(what: str) -> list[Column[object]]:
    counts = _required(f"{what}_count", BigInteger, f"jobs whose {what} time is known", "0")
    total = _required(f"{what}_seconds", Numeric, f"sum of their {what} times, in seconds", "0")
    buckets = [
        _required(f"{what}_le_{bound}", BigInteger, f"jobs with a {what} time of at most {bound} s", "0")
        for bound in DURATION_BOUNDS
    ]
    return [counts, total, *buckets]


jobs = Table(
    "jobs",
    metadata,
    _source_key(),
    _key("job_id", Text, "jobID: the unique id, a GUID and the creation time"),
    _column("id", BigInteger, "ID: the source's row number; missing in newer responses, not unique after a restore"),
    _column("job_category_id", Integer, "jobCategoryID; missing in newer responses"),
    _column("category_name", Text, "categoryName, such as Reports"),
    _column("job_sub_category_id", Integer, "jobSubCategoryID; missing in newer responses"),
    _column("sub_category_name", Text, "subCategoryName, such as Production Forecasting Report"),
    _column("job_description", Text, "jobDescription"),
    _column("client_request_id", Text, "clientRequestId: the caller's own id"),
    _column("job_status", Text, "jobStatus: Queued, Inprogress, Completed, Failed, or what else the source says"),
    _column("job_status_text", Text, "jobStatusText: free text"),
    _column("percent_completed", Integer, "percentCompleted, 0 to 100"),
    _column("response_type", Text, "responseType: File Attachment, Publishlink, In-line JSON"),
    _column("publish_link", Text, "publishLink: an address that carries an access key; secret"),
    _column("publish_link_access_scope", Text, "publishLinkAccessScope: Public, Private, PeopleInOrganization"),
    _column("request_url", Text, "requestURL: where the request is stored; secret"),
    _column("start_date", _TIME, "startDate: when the last run began"),
    _column("completed_date", _TIME, "completedDate: when the last run ended"),
    _column("created_date", _TIME, "createdDate: when the job was queued"),
    _column("modified_date", _TIME, "modifiedDate: when this version was made, by the source's clock"),
    _column("purge_date_time", _TIME, "purgeDateTime: when the source deletes the job and its outputs"),
    _column("purge_days", Integer, "purgeDays"),
    _column("client_id", Text, "clientID: the client of AIMS360 whose job it is"),
    _column("database_name", Text, "DatabaseName of the account"),
    _column("account_code", Text, "accountCode"),
    _column("can_rerun", Boolean, "canReRun"),
    _column("can_publish", Boolean, "CanPublish"),
    _column("maximum_date_time_to_execute_job", _TIME, "maximumDateTimeToExecuteJob: last moment for a rerun"),
    _column("number_of_attempts", Integer, "numberOfAttempts: 0 for a job that ran once"),
    _column("created_by", Text, "createdBy: an e-mail address; personal data"),
    _column("modified_by", Text, "modifiedBy: an e-mail address; personal data"),
    _column("row_version", BigInteger, "rowversion, or the one in @odata.etag: which of two versions is newer"),
    _column("response_json", JSONB, "response, where it is JSON other than a list of documents"),
    _column("response_text", Text, "response, where it is not JSON"),
    _column("extra", JSONB, "properties this program doesn't know, by name"),
    _required("synced_at", _TIME, "when this version was read, by the source's clock"),
    _column("purged_at", _TIME, "when the purge reached the row (only under AIMS360_PURGE=scrub or keep)"),
    _required("documents", Integer, "how many rows of job_documents it has", "0"),
    _required("reruns_seen", Integer, "how often a run that had ended was seen to give way to another", "0"),
    # On the expression that bi.jobs shows as created_at_utc: a condition on that column finds no other index. None is
    # led by source_id: without statistics Postgres takes such a one for as good as the primary key, and goes through
    # all jobs of the source for each that is asked for by its key. That of the purge is spared by its condition.
    # What they include lets jobs be counted without a look at them: by day, by account, by state, and their kinds. That
    # of the days is kept small, since a month of them is all there is.
    Index("jobs_created", _CREATED_AT_UTC, postgresql_include=["created_date", "source_id", "account_code"]),
    Index("jobs_account", "account_code", _CREATED_AT_UTC, postgresql_include=["created_date", "source_id", *_KIND]),
    Index("jobs_status", "job_status", _CREATED_AT_UTC, postgresql_include=["created_date", "source_id", *_WHOSE]),
    Index("jobs_rerun", _CREATED_AT_UTC, postgresql_where=text("COALESCE(number_of_attempts, reruns_seen, 0) > 0")),
    Index("jobs_purge", "source_id", "purge_date_time", postgresql_where=text("purged_at IS NULL")),
    schema="aims360",
    comment="The mirror: one row a job, as the source shows it.",
)

job_documents = Table(
    "job_documents",
    metadata,
    _source_key(),
    _key("job_id", Text, "jobID of the job that made it"),
    _key("position", Integer, "place in the job's list, from 0"),
    _column("document_name", Text, "documentName"),
    _column("download_link", Text, "DownloadLink: an address that carries an access key; secret"),
    _column("size_in_mb", Numeric, "SizeInMB"),
    _column("type", Text, "Type: the file's ending, such as .xlsx"),
    _column("document_id", Text, "DocumentID or DocumentGUID; usually the jobID, so not unique"),
    _column("expiry_date", _TIME, "ExpiryDate: when the document stops being served"),
    _column("version", Text, "Version"),
    _column("extra", JSONB, "properties this program doesn't know, by name"),
    _column("available_until", _TIME, "until when it can be had: its expiry or its job's purge; null once purged here"),
    _column("account_code", Text, "accountCode of its job"),
    Index(
        "job_documents_until",
        text("timezone('UTC', available_until)"),
        postgresql_include=["available_until", "source_id", "job_id", "account_code", "size_in_mb"],
    ),
    ForeignKeyConstraint(["source_id", "job_id"], ["aims360.jobs.source_id", "aims360.jobs.job_id"]),
    schema="aims360",
    comment="The documents that jobs made: one row a document, replaced as a set with its job.",
)

job_status_history = Table(
    "job_status_history",
    metadata,
    _source_key(),
    _key("job_id", Text, "jobID"),
    Column(
        "history_id", BigInteger, Identity(always=True), primary_key=True, comment="ascending in the order of sight"
    ),
    _column("job_status", Text, "jobStatus of this version"),
    _column("percent_completed", Integer, "percentCompleted of this version"),
    _column("number_of_attempts", Integer, "numberOfAttempts of this version"),
    _column("modified_date", _TIME, "modifiedDate of this version"),
    _column("row_version", BigInteger, "rowversion of this version"),
    _required("seen_at", _TIME, "when this version was first seen, by the source's clock"),
    _column("not_seen_before", _TIME, "complete_through before: the version was made after that, or committed late"),
    _column("start_date", _TIME, "startDate of this version"),
    _column("completed_date", _TIME, "completedDate of this version"),
    schema="aims360",
    comment="One row a version seen of a job. Polling misses versions that came and went between two runs.",
)

document_archive = Table(
    "document_archive",
    metadata,
    _source_key(),
    _key("job_id", Text, "jobID of the job that made it; the job itself may have been purged since"),
    Column("archive_id", BigInteger, Identity(always=True), primary_key=True, comment="ascending"),
    _column("position", Integer, "place in the job's list when it was fetched, from 0; null: the job's publishLink"),
    _column("document_name", Text, "documentName"),
    _column("account_code", Text, "accountCode of its job"),
    _required("link_sha256", Text, "digest of the link it came from"),
    _required("path", Text, "where it was put"),
    _required("bytes", BigInteger, "its size"),
    _required("sha256", Text, "digest of its content"),
    _required("fetched_at", _TIME, "when it was fetched, by this machine's clock"),
    Index("document_archive_key", "source_id", "job_id", "link_sha256", "path", unique=True),
    schema="aims360",
    comment="Documents that were fetched before they expired or were purged: one row a file; rows outlive their jobs.",
)

purged_jobs = Table(
    "purged_jobs",
    metadata,
    _source_key(),
    _key("job_id", Text, "jobID of the job that went"),
    _column("row_version", BigInteger, "rowversion of the version that went"),
    _column("purge_date_time", _TIME, "purgeDateTime of the version that went"),
    _required("purged_at", _TIME, "when it went, by the source's clock"),
    _required("reason", Text, "purged (its date had come) or missing_at_source (a reconcile found it gone)"),
    _column("day", Date, "its day in purged_daily"),
    _column("account_code", Text, "its account in purged_daily"),
    _column("category_name", Text, "its category in purged_daily"),
    _column("sub_category_name", Text, "its sub-category in purged_daily"),
    _column("job_status", Text, "its last status, in purged_daily"),
    _required("attempts", Integer, "attempts it added to purged_daily"),
    _required("documents", Integer, "documents it added to purged_daily"),
    _column("queued_seconds", Numeric, "queue time it added to purged_daily"),
    _column("run_seconds", Numeric, "run time it added to purged_daily"),
    schema="aims360",
    comment="Tombstones: one row a job that the purge removed, with what it added to purged_daily.",
)


def _daily(name: str, comment: str) -> Table:
    """Day totals: additive counters of one row a source, day, account, category, sub-category and status."""
    return Table(
        name,
        metadata,
        _required("source_id", SmallInteger, "the source (etl.sources)"),
        _column("day", Date, "day of created_date in the source's time zone"),
        _column("account_code", Text, "accountCode"),
        _column("category_name", Text, "categoryName"),
        _column("sub_category_name", Text, "subCategoryName"),
        _column("job_status", Text, "last status seen"),
        _required("jobs", BigInteger, "jobs", "0"),
        _required("attempts", BigInteger, "sum of their attempts: how often they were run again", "0"),
        _required("documents", BigInteger, "documents they made", "0"),
        *_histogram("queued"),
        *_histogram("run"),
        Index(
            f"{name}_key",
            "source_id",
            text("COALESCE(day, '-infinity'::date)"),
            text("COALESCE(account_code, ''::text)"),
            text("COALESCE(category_name, ''::text)"),
            text("COALESCE(sub_category_name, ''::text)"),
            text("COALESCE(job_status, ''::text)"),
            unique=True,
        ),
        Index(f"{name}_day", "day"),
        schema="aims360",
        comment=comment,
    )


purged_daily = _daily(
    "purged_daily", "What purged jobs leave for trend reports: additive counts by day; no people, texts or links."
)
live_daily = _daily(
    "live_daily",
    "What the jobs in the mirror add up to by day, once a source was read to its end: kept by each change of theirs.",
)

sources = Table(
    "sources",
    metadata,
    _numbered("source_id", SmallInteger, "leads every key of the mirror"),
    Column("name", Text, nullable=False, unique=True, comment="the name in the settings"),
    _required("base_url", Text, "where the source was last read"),
    _required(
        "client_ids", ARRAY(Text), "clientIDs seen, in lower case: a new one alone is taken for another source", "'{}'"
    ),
    _required("unknown_properties", ARRAY(Text), "properties kept in `extra`, each reported once", "'{}'"),
    _required("flatten_version", Integer, "what the program read when all rows were last written"),
    _required("purge_mode", Text, "delete, scrub or keep: what earlier purges did"),
    _required("time_zone", Text, "zone of the days in job_daily"),
    _column(
        "watermark", _TIME, "newest modifiedDate that complete scans have covered; the next begins a look-back before"
    ),
    _column(
        "complete_through",
        _TIME,
        "every version committed by then is in the mirror, if commits are less late than the look-back",
    ),
    _column("purge_asked_at", _TIME, "when the source was last asked about jobs past their purge date, by our clock"),
    _required("strategy", Text, "scans go by key, by time or by skip, as the service allows", "'key'"),
    _required(
        "highest",
        JSONB,
        "by database_name, when the highest rowversion was seen, and which: a restore shows",
        "'{}'",
    ),
    _column("went_back", Text, "what told that the source went back to an earlier state, until that is followed"),
    _column("doubted", _TIME, "modifiedDate of a newest row before the watermark that told of no restore"),
    _column("reread_due_at", _TIME, "when the last days are read again (deep pass); null: at the next run"),
    _column("reconcile_due_at", _TIME, "when all keys are compared again (deep pass); null: at the next run"),
    _required("failures", Integer, "runs in a row that failed, but for those that only purge or go deep", "0"),
    _column("not_before", _TIME, "a fleet leaves the source alone until then, since runs failed; null: it does not"),
    _required("deep_failures", Integer, "runs in a row that failed, of those that only purge or go deep", "0"),
    _column("deep_not_before", _TIME, "a fleet makes no run that only purges or goes deep until then; null: it does"),
    _required("sign_in_failures", Integer, "times in a row that the service refused these credentials", "0"),
    _column("sign_in_not_before", _TIME, "no sign-in with the refused credentials until then; null: none were refused"),
    _column("sign_in_hash", Text, "salted hash of the refused credentials: changed ones are tried at once"),
    _required(
        "paging", Text, "how pages were last asked for: key, key_unordered, time or skip, the cheapest first", "'key'"
    ),
    _required(
        "window_by",
        Text,
        "modifiedDate, or none where the service refuses the filter: runs read all rows",
        "'modifiedDate'",
    ),
    _required(
        "capabilities",
        JSONB,
        "by name, what the service supports, with its words and the time; a refusal is kept a day",
        "'{}'",
    ),
    schema="etl",
    comment="The sources that are mirrored: one row a source.",
)

runs = Table(
    "runs",
    metadata,
    _source_key(),
    _numbered("run_id", BigInteger, "ascending"),
    _required(
        "kind", Text, "incremental, full, purge, reread, reconcile or job; that of an earlier scan it first ended"
    ),
    _required("host", Text, "machine that ran it"),
    _required("pid", Integer, "process that ran it"),
    _required("started_at", _TIME, "by this machine's clock"),
    _column("finished_at", _TIME, "by this machine's clock; null while it runs, and where it was interrupted"),
    _required("outcome", Text, "running, succeeded, failed, or interrupted (ended without saying so)"),
    _column("verdict", Text, "complete, complete_with_rejects or incomplete; null of a purge or a job by itself"),
    _column("window_from", _TIME, "rows modified since then were asked for; null: all"),
    _column("window_to", _TIME, "newest modifiedDate when the scan was opened"),
    _column("as_of", _TIME, "when the scan was opened, by the source's clock"),
    _column("watermark_before", _TIME, "watermark when the run began"),
    _column("watermark_after", _TIME, "watermark when the run ended"),
    _required("pages", Integer, "pages of jobs read", "0"),
    _required("requests", Integer, "requests made, retries included", "0"),
    _required("inserted", BigInteger, "jobs new to the mirror", "0"),
    _required("updated", BigInteger, "jobs brought to a newer version", "0"),
    _required("unchanged", BigInteger, "jobs that were the same: not written", "0"),
    _required("refused", BigInteger, "versions older than the mirror's: not written", "0"),
    _required("skipped", BigInteger, "jobs purged here and not extended: not written", "0"),
    _required("returned", BigInteger, "of the inserted: jobs that had been purged or missing", "0"),
    _required("rejected", BigInteger, "rows that could not be read: in etl.rejects", "0"),
    _required("duplicates", BigInteger, "rows that came twice, in a page or on a later one", "0"),
    _required("unversioned", BigInteger, "rows judged by modifiedDate for want of a rowversion", "0"),
    _required("replaced_characters", BigInteger, "NUL and lone surrogates stored as U+FFFD", "0"),
    _required("purged", BigInteger, "jobs the purge removed, scrubbed or marked", "0"),
    _column("error", Text, "why it failed, without secrets"),
    _column("request_id", Text, "the service's id of the request that failed: AIMS360's support looks a call up by it"),
    _required("missing", BigInteger, "jobs a deep pass found that no increment would have brought", "0"),
    _required("stale", BigInteger, "jobs a deep pass found changed that no increment would have brought", "0"),
    _required("ghosts_purged", BigInteger, "jobs the source no longer shows, past their purge date", "0"),
    _required("ghosts_early", BigInteger, "jobs the source no longer shows, before their purge date", "0"),
    _required("ghosts_vanished", BigInteger, "jobs the source no longer shows, without a purge date", "0"),
    _required("repaired", BigInteger, "of those missing, stale and ghosts: set right", "0"),
    _column("strategy", Text, "what its scans went by: ID, jobID, modifiedDate or $skip"),
    _required("checks", ARRAY(Text), "checks that every answer passed", "'{}'"),
    _required("notes", ARRAY(Text), "what is worth knowing, such as a restore of the source", "'{}'"),
    _required("runs", Integer, "runs that the row stands for: those without news are folded into one a day", "1"),
    Index("runs_running", "source_id", postgresql_where=text("outcome = 'running'")),
    schema="etl",
    comment="The ledger: one row a run.",
)

scans = Table(
    "scans",
    metadata,
    _source_key(),
    _key("lane", Text, "sync, reread or reconcile: a source has at most one open scan of each"),
    _required("run_id", BigInteger, "the run that saved it last"),
    _required("kind", Text, "full, incremental, reread or reconcile"),
    _required("key", Text, "what it goes by: ID, jobID, modifiedDate or $skip"),
    _column("window_from", _TIME, "rows modified since then; null: all"),
    _column("window_to", _TIME, "newest modifiedDate when it was opened"),
    _required("as_of", _TIME, "when it was opened, by the source's clock"),
    _required("rewrite", Boolean, "whether rows that are the same are written anew"),
    _required("opaque", Boolean, "whether keys came that can't be compared here"),
    _required("delivered", BigInteger, "rows read so far inside the window, in a sync's scan by jobID"),
    _required(
        "cursors", JSON, "[part, after, up_to, done, tail, before] of each range; json, since a key may hold NUL"
    ),
    _required("flatten_version", Integer, "what the program read that opened it", "1"),
    _column("expected", BigInteger, "rows that the source counted when it was opened, for the progress shown"),
    _required("done", BigInteger, "rows read so far, for the progress shown", "0"),
    _required("opened_by", BigInteger, "the run that opened it", "0"),
    _required("trusting", Boolean, "whether the source's word counts for every row: it was restored", "false"),
    _column("counted", BigInteger, "old jobs that the source counted before the first page (reconcile)"),
    _column("page_size", Integer, "rows asked for per page; null: as many as the service sends"),
    _required("narrowed", Boolean, "whether each page asks for a key range of about page_size rows", "false"),
    _required("is_ordered", Boolean, "whether $orderby asks for the order of the key", "true"),
    _column("latest", _TIME, "latest modifiedDate shown so far, where the newest row could not be asked for"),
    schema="etl",
    comment="Open scans: where the next run goes on.",
)

compared = Table(
    "compared",
    metadata,
    _source_key(),
    _key("opened_by", BigInteger, "the run that opened the comparison"),
    Column(
        "page",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="some pages, ascending in the order of sight",
    ),
    _column(
        "is_old",
        Boolean,
        "whether they were created more than a look-back before the comparison was opened; null: it isn't known",
    ),
    _required("job_ids", ARRAY(Text), "jobIDs that the source shows"),
    schema="etl",
    comment="Keys that an open comparison has seen, some pages a row; what is left of a dead one goes with the next.",
)

unseen_jobs = Table(
    "unseen_jobs",
    metadata,
    _source_key(),
    _key("job_id", Text, "a job of the mirror"),
    _required("unseen_since", _TIME, "when the first comparison that lacked it was opened, by the source's clock"),
    schema="etl",
    comment="Jobs that the last comparison lacked, of a source that counts no rows: the next one decides.",
)

account_access = Table(
    "account_access",
    metadata,
    _required("role_name", Text, "a role of this server: it, and who is a member of it, sees only what its rows name"),
    _column("source", Text, "the source's name; null: any"),
    _column("account_code", Text, "the account; null: any"),
    CheckConstraint("source <> '' AND account_code <> ''", name="account_access_is_named"),
    Index(
        "account_access_key",
        "role_name",
        text("COALESCE(source, ''::text)"),
        text("COALESCE(account_code, ''::text)"),
        unique=True,
    ),
    schema="bi",
    comment="Which role sees which accounts in bi, a row each; who was never held to any sees all.",
)

roster = Table(
    "roster",
    metadata,
    _key("name", Text, "the source's name"),
    _required("settings", JSONB, "what a table [sources.NAME] of aims360.toml would say: keys and texts, no secrets"),
    _required("added_at", _TIME, "by this machine's clock"),
    _required("changed_at", _TIME, "by this machine's clock"),
    _column("disabled_at", _TIME, "since when it is left alone; null: it is not"),
    CheckConstraint("jsonb_typeof(settings) = 'object'", name="roster_settings_are_keys"),
    schema="etl",
    comment="Sources that are configured here and not in a file: one row a source; secrets by reference only.",
)

queue = Table(
    "queue",
    metadata,
    _required("script", Text, "the last script of Procrastinate that schema queue was made by"),
    schema="etl",
    comment="How far the queue of a fleet is made: one row, none where there is no queue.",
)

definitions = Table(
    "definitions",
    metadata,
    _required("digest", Text, "digest of functions, views and comments"),
    schema="etl",
    comment="Which functions, views and comments the last migrate wrote: one row.",
)

erasures = Table(
    "erasures",
    metadata,
    _numbered("erasure_id", BigInteger, "ascending"),
    _column("source_id", SmallInteger, "the source (etl.sources); null: all"),
    _required("kind", Text, "account, or person: whose name is not kept"),
    _column("account_code", Text, "the account that was erased"),
    _required("erased_at", _TIME, "by this machine's clock"),
    _required("erased_by", Text, "the role of the database that did it"),
    _required("jobs", BigInteger, "jobs that went, with documents and history; their day totals stayed", "0"),
    _required("names", BigInteger, "names taken out of jobs that stayed", "0"),
    _required("documents", BigInteger, "documents that went with the jobs", "0"),
    _required("rejects", BigInteger, "rejected rows that went", "0"),
    _required("archived", BigInteger, "rows of aims360.document_archive that went", "0"),
    schema="etl",
    comment="What was erased on request: one row a request; day totals stayed.",
)

rejects = Table(
    "rejects",
    metadata,
    _source_key(),
    _key("job_id", Text, "jobID, or sha256:… of the raw row where even that can't be read"),
    _required("run_id", BigInteger, "the run that met it last"),
    _required("reason", Text, "why it can't be read"),
    _required("raw", Text, "the row as it came: may hold links; no BI role reads this table"),
    _column("purge_date_time", _TIME, "its purgeDateTime, where readable"),
    _required("first_seen_at", _TIME, "when it was first met, by the source's clock"),
    _column("key_name", Text, "ID or jobID: the property that key_after and key_before are values of"),
    _column("key_after", Text, "the record lies beyond this key; set where its jobID is unknown"),
    _column("key_before", Text, "the record lies before this key"),
    _required("times_asked", Integer, "how often the source was asked for it again", "0"),
    _required("runs_to_wait", Integer, "runs until the source is asked for it again", "1"),
    _column("asked_at", _TIME, "when the source was last asked for it, by the source's clock"),
    _required("times_missing", Integer, "times in a row that the source did not show it", "0"),
    _required("flatten_version", Integer, "what the program reads that could not read it", "1"),
    schema="etl",
    comment="Rows that could not be read, one per job; the source is asked for them again.",
)

unread_values = Table(
    "unread_values",
    metadata,
    _source_key(),
    _key("job_id", Text, "a job of the mirror"),
    _key("property", Text, "the property whose value could not be read; the raw value is in the job's `extra`"),
    _required("form", Text, "the JSON type and shape of the value, without the value"),
    _required("first_seen_at", _TIME, "when it was first met, by the source's clock"),
    _required("times_asked", Integer, "how often the source was asked for the job again", "0"),
    _required("runs_to_wait", Integer, "runs until the source is asked for the job again", "1"),
    _column("asked_at", _TIME, "when the source was last asked for the job, by the source's clock"),
    _required(
        "settled",
        Boolean,
        "whether the source writes it so, as a day or other jobs have shown: it is not asked again",
        "false",
    ),
    Index("unread_values_waiting", "source_id", "runs_to_wait", postgresql_where=text("NOT settled")),
    Index(
        "unread_values_due",
        "source_id",
        text("coalesce(asked_at, first_seen_at)"),
        "job_id",
        postgresql_where=text("NOT settled AND runs_to_wait <= 0"),
    ),
    Index("unread_values_forms", "source_id", "property", "form", postgresql_where=text("NOT settled")),
    Index(
        "unread_values_known_forms",
        "source_id",
        "property",
        "form",
        postgresql_where=text("settled AND times_asked > 0"),
    ),
    schema="etl",
    comment="Values that could not be read, of jobs that were loaded without them; the source is asked for them again.",
)
