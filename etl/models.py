"""The words of the pipeline as frozen values: Window, Cursor, Scan, Page, Batch, Reject, Counts, Run, Verdict.

A *scan* asks for a *window* of the source and gets *pages*; a page is flattened into a *batch* (rows, and *rejects*);
batches are loaded under a *run*; the *watermark* says where the next scan begins; the *rowversion* says which of two
versions is newer. Nothing here does any IO. Times are aware and UTC throughout. Structs are frozen dataclasses that
cost no time to define: a dozen of those would be a third of what a sync that runs each minute does.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from operator import add
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import astuple, replace

# What this program reads out of a row. Raise it when flatten reads more: the weekly comparison writes all rows anew.
FLATTEN_VERSION = 2

# SQL Server's datetime ticks every 1/300 s and is shown rounded: a bound taken from a shown value is moved this far
# outwards, so that the row it was read from stays inside (docs/correctness.md, "The scan").
TICK_PLAY = timedelta(milliseconds=10)
SHOWN_PLAY = timedelta(milliseconds=1)  # what a shown value may lie beside the stored one
CLOCK_TOLERANCE = timedelta(hours=1)  # a stored moment further in the future was written while a clock was wrong

# Upper bounds in seconds of the duration histograms of purged_daily and bi.job_daily (cumulative, "le").
DURATION_BOUNDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

# The states a job is in, in the documented spelling, in which they are stored; the source may say others.
OPEN_STATES = ("Queued", "Inprogress")
COMPLETED = "Completed"
ENDED_STATES = (COMPLETED, "Failed")

# A key of the source: an ID, or a jobID where the source shows no ID.
Key = int | str
USUAL_PAGE = 100  # rows, where none has come yet
SYNC = "sync"  # the lane of full and incremental scans; deep passes have one each
REPLACED_TEXT = "(text)"  # in place of a property: some characters of a job's texts were replaced
BY_TIME = "modifiedDate"  # what a scan goes by that is read by time slices
BY_SKIP = "$skip"  # and by overlapping pages
KEYS = ("ID", "jobID")  # properties that a scan can go by, the preferred one first

# What a service may support or not (docs/correctness.md, "What the service may refuse"). The last ones are finer than
# what is documented there: a filter on ID alone, `$orderby` of dates, `and`, the order of rows that are asked for
# without `$orderby`, rows without a date, instants with more rows than a page, the filter for one job (`jobID eq`), its
# plain path, nextLink.
# The names are what people read: "refuses $top, filters on dates".
CAPABILITY_NAMES = {
    "top": "$top",
    "orderby": "$orderby",
    "filter_dates": "filters on dates",
    "filter_keys": "filters on jobID",
    "or": "`or` in filters",
    "count": "$count",
    "skip": "$skip",
    "select": "$select",
    "page_size": "pagesize",
    "largest_list": "long lists of keys",
    "largest_query": "long queries",
    "filter_id": "filters on ID",
    "orderby_dates": "$orderby of dates",
    "and": "`and` in filters",
    "default_order": "rows in the order of their keys",
    "null_dates": "filters on missing dates",
    "slices": "slices of time, as pages hold them",
    "job_filter": "the filter for a single job",
    "plain_path": "the path of a single job",
    "next_link": "nextLink",
}
CAPABILITIES = tuple(CAPABILITY_NAMES)


class Span(NamedTuple):
    """Keys that a scan leaves out: all beyond `last`, up to and with `through`."""

    last: Key
    through: Key


class Support(StrEnum):
    """Whether a service supports something."""

    UNKNOWN = "unknown"
    YES = "yes"
    NO = "no"


class Capability(Struct, frozen=True):
    """What a service was found to do with one of CAPABILITIES, in the words of the answer that showed it, and when.

    `limit`: keys of the largest list, or bytes of the largest query, that it answers.
    """

    support: Support = Support.UNKNOWN
    words: str = ""
    at: datetime | None = None
    limit: int | None = None


class Paging(StrEnum):
    """How the pages of a scan are asked for, the cheapest way first."""

    KEY = "key"
    KEY_UNORDERED = "key_unordered"
    TIME = "time"
    SKIP = "skip"


def find_paging(key: str, *, is_ordered: bool) -> Paging:
    """Return the paging of a scan that goes by some key, in the order that it asks for or not."""
    unkeyed = {BY_TIME: Paging.TIME, BY_SKIP: Paging.SKIP}
    return unkeyed.get(key, Paging.KEY if is_ordered else Paging.KEY_UNORDERED)


class Clock(Struct, frozen=True):
    """Time, handed in by the command line and by tests: nothing below reads the machine's clock or sleeps by itself."""

    now: Callable[[], datetime]  # UTC
    monotonic: Callable[[], float]  # seconds
    sleep: Callable[[float], None]  # seconds


class JobRow(NamedTuple):
    """A job as `aims360.jobs` holds it, without `source_id`, `synced_at` and `purged_at`; JSON columns as JSON text."""

    job_id: str
    id: int | None
    job_category_id: int | None
    category_name: str | None
    job_sub_category_id: int | None
    sub_category_name: str | None
    job_description: str | None
    client_request_id: str | None
    job_status: str | None
    job_status_text: str | None
    percent_completed: int | None
    response_type: str | None
    publish_link: str | None
    publish_link_access_scope: str | None
    request_url: str | None
    start_date: datetime | None
    completed_date: datetime | None
    created_date: datetime | None
    modified_date: datetime | None
    purge_date_time: datetime | None
    purge_days: int | None
    client_id: str | None
    database_name: str | None
    account_code: str | None
    can_rerun: bool | None
    can_publish: bool | None
    maximum_date_time_to_execute_job: datetime | None
    number_of_attempts: int | None
    created_by: str | None
    modified_by: str | None
    row_version: int | None
    response_json: str | None
    response_text: str | None
    extra: str | None


class DocumentRow(NamedTuple):
    """A document of a job as `aims360.job_documents` holds it, without `source_id` and `job_id`."""

    position: int
    document_name: str | None
    download_link: str | None
    size_in_mb: Decimal | None
    type: str | None
    document_id: str | None
    expiry_date: datetime | None
    version: str | None
    extra: str | None


class Job(Struct, frozen=True):
    """One version of a job with its documents: they change together.

    `unread`: the properties whose value could not be read, each with its form. Their column is NULL, and the value
    stands in `extra`.
    """

    row: JobRow
    documents: tuple[DocumentRow, ...]
    unread: tuple[tuple[str, str], ...] = ()


class Encoded(Struct, frozen=True):
    """So many new jobs as COPY takes them, by table."""

    count: int
    jobs: bytes
    documents: bytes
    history: bytes


class Reject(Struct, frozen=True):
    """A row that can't be read. `job_id` is the job's, or a digest of the raw text where even that is unreadable.

    Of a record that the source can't serve perhaps only its place is known: its `key_name` ("ID" or "jobID") lies
    between `key_after` and `key_before`, as text, both exclusive (None: no bound). Then `raw` is empty.
    """

    job_id: str
    reason: str
    raw: str
    purge_date_time: datetime | None
    key_name: str | None = None
    key_after: str | None = None
    key_before: str | None = None


class Batch(Struct, frozen=True):
    """What a page became. No two jobs share a `job_id`: of duplicates the newer version was kept.

    `encoded`: the jobs of its pages, where they are likely to be new. `same`: rows that were left out, since the mirror
    holds their very version.
    """

    jobs: tuple[Job, ...] = ()
    rejects: tuple[Reject, ...] = ()
    duplicates: int = 0
    replaced_characters: int = 0
    unknown: frozenset[str] = frozenset()
    encoded: tuple[Encoded, ...] = ()
    same: int = 0


class ScanKind(StrEnum):
    """What a scan is for.

    FULL reads all rows, INCREMENTAL those modified since the watermark less the look-back. Deep passes catch what no
    watermark can: REREAD reads the last days once more, RECONCILE compares all keys.
    """

    FULL = "full"
    INCREMENTAL = "incremental"
    REREAD = "reread"
    RECONCILE = "reconcile"


class Window(Struct, frozen=True):
    """The times of a scan: rows with `modifiedDate >= lower` (None: all), probed as newest `upper` at `as_of`."""

    lower: datetime | None
    upper: datetime | None
    as_of: datetime


class Cursor(Struct, frozen=True):
    """Where one key range of a scan stands: rows with `after < key <= up_to` are still to come, unless it is done.

    By overlapping pages `after` is the number of rows that were read, or the query of the nextLink to go on with, and
    `before` the query of the page that ended there. `tail`: the last rows of that page, each with key and version.
    """

    part: int
    after: Key | None
    up_to: Key | None
    done: bool = False
    tail: tuple[tuple[str, str], ...] = ()
    before: str | None = None


class Scan(Struct, frozen=True):
    """A scan as it stands. `key` is the source's property that orders it ("ID" or "jobID").

    `key` is BY_TIME for time slices: then cursors are times, as the source writes them. It is BY_SKIP for overlapping
    pages. `is_ordered`: `$orderby` asks for the order of the key; else it is the service's own. `latest`: the latest
    modifiedDate shown so far that isn't beyond the source's time, where the probe could not ask for the newest row.
    `delivered` counts the rows read so far inside the window, in a sync by jobID: it is needed only where keys can't be
    compared here (`opaque`), to hold the end of the scan against the source's own count. `done` and `expected` (None:
    not counted) are rows too, for the progress shown. `flatten_version` is that of the program that opened it.
    `trusting`: the source was restored, so that its word counts for every row. `select` (not empty: only these
    properties are asked for) and `counted`, what the source counted of its old jobs before the first page, are a
    comparison's. `highest` is the highest key of one of all rows when it was planned; it is not stored, and only serves
    to split ranges. `page_size`: rows asked for per page (None: as many as the service sends), `narrowed`: by ranges of
    the key too, since the service ignores the requested page size.
    """

    kind: ScanKind
    window: Window
    key: str
    cursors: tuple[Cursor, ...]
    rewrite: bool = False
    opaque: bool = False
    delivered: int = 0
    done: int = 0
    expected: int | None = None
    flatten_version: int = FLATTEN_VERSION
    opened_by: int = 0
    trusting: bool = False
    counted: int | None = None
    select: tuple[str, ...] = ()
    highest: Key | None = None
    page_size: int | None = None
    narrowed: bool = False
    is_ordered: bool = True
    latest: datetime | None = None

    @property
    def paging(self) -> Paging:
        """How its pages are asked for."""
        return find_paging(self.key, is_ordered=self.is_ordered)

    @property
    def has_key(self) -> bool:
        """Whether it goes by a key, ordered or not."""
        return self.key in KEYS

    @property
    def lane(self) -> str:
        """Scans of one lane take each other's place: a source has at most one open in each."""
        return self.kind if self.kind in (ScanKind.REREAD, ScanKind.RECONCILE) else SYNC

    @property
    def is_done(self) -> bool:
        """Whether every range was read to its end."""
        return all(cursor.done for cursor in self.cursors)

    def moved(self, page: "Page") -> "Scan":
        """The scan after a page: its cursor moved, its counts taken over."""
        cursors = (*(page.cursor if c.part == page.cursor.part else c for c in self.cursors), *page.split_off)
        return replace(
            self,
            cursors=cursors,
            opaque=self.opaque or page.opaque,
            delivered=self.delivered + page.delivered + len(page.rejects),
            done=self.done + len(page.rows) + len(page.rejects),
            page_size=page.page_size,
            narrowed=page.narrowed,
            latest=max((date for date in (self.latest, page.latest) if date is not None), default=None),
        )

    def shrunk(self) -> "Scan":
        """Return the scan with half as many rows per page."""
        return replace(self, page_size=max(1, (self.page_size or USUAL_PAGE) // 2), narrowed=self.page_size is not None)

    def anew(self) -> "Scan":
        """The same scan from its beginning, in one range."""
        return replace(self, cursors=(Cursor(0, None, None),), delivered=0, done=0)

    def between(self, cursor: Cursor, page: "Page") -> "Scan":
        """A scan of the whole rows between a cursor and the page that followed it."""
        # One range, part 0: by time too, that is one without an end unless it is given.
        up_to = page.cursor.up_to if page.cursor.done else page.cursor.after
        return replace(self, cursors=(Cursor(0, cursor.after, up_to),), select=())


class Page(Struct, frozen=True):
    """An answer of the source that passed every check: raw rows, the cursor after them, and when it was given.

    `split_off` are ranges that its own was split into besides, to be read side by side. `repeated` counts rows that an
    earlier page had brought already. `rejects`: records between its rows that the service can't serve. `page_size` and
    `narrowed`: how the next page is asked for, `latest`: the latest modifiedDate among its rows, see Scan.
    """

    rows: tuple[bytes, ...]
    cursor: Cursor
    answered_at: datetime
    opaque: bool = False
    delivered: int = 0
    repeated: int = 0
    replaced_characters: int = 0
    split_off: tuple[Cursor, ...] = ()
    rejects: tuple[Reject, ...] = ()
    page_size: int | None = None
    narrowed: bool = False
    latest: datetime | None = None


class Counts(Struct, frozen=True):
    """What happened to rows, in a page or in a run."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0  # older than what the mirror holds
    skipped: int = 0  # purged here already, and not extended
    returned: int = 0  # of the inserted: had been purged or missing, and came back
    rejected: int = 0
    duplicates: int = 0  # rows that came twice, in a page or on a later one
    unversioned: int = 0  # judged by modifiedDate, for want of a rowversion on one side
    replaced_characters: int = 0  # NUL and lone surrogates, stored as U+FFFD
    purged: int = 0
    missing: int = 0  # found by a deep pass: no increment would have brought them
    stale: int = 0
    ghosts_purged: int = 0  # no longer shown by the source, past their purge date
    ghosts_early: int = 0  # before it
    ghosts_vanished: int = 0  # without one
    repaired: int = 0  # of those missing, stale and ghosts

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(add, astuple(self), astuple(other)))

    @property
    def written(self) -> int:
        """Jobs whose rows were written."""
        return self.inserted + self.updated

    @property
    def ghosts(self) -> int:
        """Jobs of the mirror that the source no longer shows."""
        return self.ghosts_purged + self.ghosts_early + self.ghosts_vanished

    @property
    def differences(self) -> int:
        """What a deep pass found."""
        return self.missing + self.stale + self.ghosts


class Usage(Struct, frozen=True):
    """What a run asked of the source: requests with all retries, how many of them were retries, and their answers.

    `statuses`: how many answers by HTTP status, as text; "none" where none came.
    """

    requests: int = 0
    retries: int = 0
    statuses: dict[str, int] = {}

    def since(self, before: "Usage") -> "Usage":
        """What was asked since then."""
        statuses = {status: count - before.statuses.get(status, 0) for status, count in self.statuses.items()}
        return Usage(
            self.requests - before.requests,
            self.retries - before.retries,
            {status: count for status, count in statuses.items() if count},
        )


class Exchange(Struct, frozen=True):
    """A request and how it ended, without secrets: its path and query (of an output only the host), the status.

    `status` is None where no answer came: then `failed` says what kind of error. `seconds` until its headers were here.
    """

    method: str
    address: str
    status: int | None
    seconds: float
    failed: str = ""


class Progress(Struct, frozen=True):
    """How far a run is: what it does, how many rows are done, and of how many (None: unknown); mostly an estimate."""

    run_id: int
    what: str
    done: int = 0
    of: int | None = None
    is_exact: bool = False  # of: no estimate


Watch = Callable[[Progress], None]


def silent(_progress: Progress) -> None:
    """Watches nothing."""


class Verdict(StrEnum):
    """What a run can promise about its window."""

    COMPLETE = "complete"
    COMPLETE_WITH_REJECTS = "complete_with_rejects"
    INCOMPLETE = "incomplete"


class Run(Struct, frozen=True):
    """The result of a run, as `etl.runs` records it. One that only purges, or only brings a job, has no verdict.

    `retries` and `statuses` are those of `Usage`; `phases`: seconds by phase (probe, scan, purge, deep). `new_rejects`:
    rows that can't be read, and could be, or weren't there, before.
    """

    run_id: int
    source: str
    kind: str
    verdict: Verdict | None
    pages: int
    requests: int
    seconds: float
    counts: Counts
    watermark: datetime | None
    complete_through: datetime | None
    strategy: str | None = None
    checks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    retries: int = 0
    statuses: dict[str, int] = {}
    phases: dict[str, float] = {}
    new_rejects: int = 0

    @property
    def is_unwell(self) -> bool:
        """Whether somebody should look: rows were rejected for the first time, or mirror and source still differ.

        A comparison that met rows that it could not read couldn't compare them.
        """
        is_blind = self.kind == ScanKind.RECONCILE and self.verdict == Verdict.COMPLETE_WITH_REJECTS
        return self.new_rejects > 0 or is_blind or self.counts.differences > self.counts.repaired
