"""Looks at everything a sync needs, one check after the other, and says what the service honours.

Nobody knows the real service from here (api.md): what it does with a query is found out by asking it, each answer held
against its question.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from psycopg.errors import InsufficientPrivilege

from etl.client import network_errors, odata, payload
from etl.client.attempts import Reply
from etl.client.client import Api
from etl.config import settings
from etl.config.secrets import Secret
from etl.errors import AskForLess, CredentialsRefused, EtlError, Refused, SchemaError, SourceError
from etl.extract.probe import newest_row
from etl.models import TICK_PLAY, Batch, Clock, Key
from etl.postgres import connection, migrations, pooler
from etl.state.sign_in import Reach, guard_sign_in
from etl.text import most_frequent
from etl.transform.flatten import flatten

_FEW = 5
_ATTEMPTS = 4  # what throttling or a gateway gets in the way of is asked again, but not for a minute
_CLOCKS_APART = timedelta(seconds=30)
_AN_HOUR = timedelta(hours=1)
# Which page is read: the newest rows, else any; and fewer where a usual page is too much for the service.
_NEWEST_FIRST = odata.query(order="modifiedDate desc")
_PAGES = ((_NEWEST_FIRST, None), (_NEWEST_FIRST, 20), (odata.query(), None), (odata.query(), 20))
_BEYOND = 1_000_000  # rows to skip: more than an hour brings
_CAN_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
# By number: who has no USAGE on a schema may not even ask about a table of it by name.
_MISSING_RIGHTS = """
SELECT 'USAGE on schema ' || n.nspname, 0, n.nspname::text, ''
FROM pg_namespace AS n
WHERE n.nspname IN ('aims360', 'etl') AND NOT has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT r.name || ' on ' || n.nspname || '.' || c.relname, 1, n.nspname || '.' || c.relname, r.name
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS r (name)
WHERE n.nspname IN ('aims360', 'etl')
  AND c.relkind IN ('r', 'p')
  AND c.relname <> 'definitions'
  AND (c.relname NOT IN ('alembic_version', 'queue', 'erasures', 'roster') OR r.name = 'SELECT')
  AND NOT has_table_privilege(c.oid, r.name)
ORDER BY 2, 3, 4
"""


class Standing(StrEnum):
    """How a check ended: fine, worth knowing, or in the way of a sync."""

    FINE = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it stands, and what to do about it."""

    name: str
    standing: Standing
    detail: str


class Question(NamedTuple):
    """A query, whether an answer keeps to it, and whether a sync needs that."""

    name: str
    query: str
    is_kept: Callable[[Reply], bool]
    is_needed: bool


def examine(
    read_settings: Callable[[], settings.Settings],
    name: str | None,
    clock: Clock,
    database_url: Callable[[settings.Settings], str],
    source: Callable[[settings.Settings, str | None], settings.Source],
    reach: Callable[[settings.Settings], AbstractContextManager[connection.Connection | None]],
) -> Iterator[Check]:
    """Every check in order; those that build on a failed one are left out."""
    try:
        found = read_settings()
    except EtlError as error:
        yield from failures("settings", error)
        return
    yield from database_checks(lambda: database_url(found))
    for each in [name] if name or len(found.sources) == 1 else found.sources:
        yield from _source(partial(source, found, each), clock, partial(reach, found))


def _source(judged: Callable[[], settings.Source], clock: Clock, reach: Reach) -> Iterator[Check]:
    try:
        source = judged()
    except EtlError as error:
        yield from failures("settings", error)
        return
    kind = "a token" if isinstance(source.credentials, Secret) else "the password grant"
    yield Check("settings", Standing.FINE, f"source {source.name!r} at {source.base_url}, signing in with {kind}")
    if source.is_in_the_clear:
        yield Check("settings", Standing.NOTE, "http sends the token in the clear: whoever is on the way can read it")
    if proxy := network_errors.proxy_of(source.base_url):
        yield Check("proxy", Standing.FINE, f"requests go through {proxy.place}, which {proxy.variable} names")
    try:
        with guard_sign_in(reach, source, clock), Api(source, clock) as api:
            yield from service(api)
    except EtlError as error:
        yield from failures("service", error)


def table(checks: list[Check]) -> str:
    """The checks for people."""
    width = max(len(check.name) for check in checks)
    lines = [f"{check.standing:<6}  {check.name:<{width}}  {check.detail}" for check in checks]
    failed = sum(check.standing is Standing.FAILED for check in checks)
    lines.append(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
    return "\n".join(lines)


def failures(name: str, error: EtlError) -> Iterator[Check]:
    """An error as failed checks, a line each."""
    for line in str(error).splitlines():
        yield Check(name, Standing.FAILED, line)


def database_checks(address: Callable[[], str], is_new: bool = False) -> Iterator[Check]:
    """What a sync needs of the database at an address; one that `is_new` isn't expected to be migrated."""
    try:
        url = address()
        with connection.connected(url) as db:
            number = db.info.server_version
            yield Check(
                "database", Standing.FINE, f"{connection.masked(url)}, Postgres {number // 10000}.{number % 10000}"
            )
            yield from _schema(db, is_new)
            yield from _writable(db)
            yield from _own_session(db)
    except EtlError as error:
        yield from failures("database", error)


def _schema(db: connection.Connection, is_new: bool) -> Iterator[Check]:
    try:
        found = migrations.revision(db)
        migrations.require(db)
    except SchemaError as error:
        can_wait = is_new and (found is None or found < migrations.newest())
        yield Check("schema", Standing.NOTE if can_wait else Standing.FAILED, str(error))
        yield _right_to_migrate(db)
        return
    except InsufficientPrivilege:
        yield Check("schema", Standing.FAILED, f"{db.info.user} may not see which revision it is at")
        yield _right_to_write(db)
        return
    yield Check("schema", Standing.FINE, f"at {migrations.newest()}, this program's")
    yield _right_to_write(db)


def _writable(db: connection.Connection) -> Iterator[Check]:
    """Whether it takes writes at all: a standby reads as well as the server that it follows."""
    if db.execute("SHOW transaction_read_only").fetchone() == ("on",):
        said = (
            "takes no writes: DATABASE_URL must lead to the server that does, not to a standby or a read-only setting"
        )
        yield Check("database", Standing.FAILED, said)


def _own_session(db: connection.Connection) -> Iterator[Check]:
    """Whether a sync can hold its source there: behind a pooler of transactions it can't, though readers can read."""
    try:
        pooler.require(db)
    except EtlError as error:
        yield from failures("session", error)


def _right_to_migrate(db: connection.Connection) -> Check:
    row = db.execute(_CAN_CREATE).fetchone()
    if row and row[0]:
        return Check("rights", Standing.FINE, f"{db.info.user} may create schemas in this database")
    return Check(
        "rights",
        Standing.FAILED,
        f"{db.info.user} may not create schemas here: "
        f'GRANT CREATE ON DATABASE "{db.info.dbname}" TO "{db.info.user}", or migrate as another role',
    )


def _right_to_write(db: connection.Connection) -> Check:
    user = db.info.user
    missing = db.execute(_MISSING_RIGHTS).fetchall()
    if not missing:
        return Check("rights", Standing.FINE, f"{user} may read and write every table of the mirror")
    more = f", and {len(missing) - 1} more" if missing[1:] else ""
    cure = f'let the owner of the mirror run `aims360-etl grant --writer "{user}"`'
    return Check("rights", Standing.FAILED, f"{user} lacks {missing[0][0]}{more}: {cure}")


def service(api: Api) -> Iterator[Check]:
    """What the service answers, what it honours, and what scans of it go by. Raises CredentialsRefused."""
    try:
        page = newest_job(api, _ATTEMPTS + 1)  # the last one shows that it is the row, and not the service
    except CredentialsRefused:
        raise
    except SourceError as error:
        yield from failures("service", error)
        return
    yield from accepted(api)
    if not page.answer.rows:
        yield Check("jobs", Standing.NOTE, "the service shows no job: what it honours can't be told yet")
        return
    row = page.answer.rows[0]
    newest = odata.stamp(row)
    yield from _shown(row, newest)
    yield from read_page(api)
    for question in _questions(newest):
        yield _asked(api, question)[0]
    yield from _strategy(api, newest)
    yield _page_size(api)


def newest_job(api: Api, attempts: int = _ATTEMPTS) -> Reply:
    """The newest job that the service can serve, as every run begins. Raises SourceError."""
    return newest_row(api, attempts) or api.page("", attempts=attempts)


def accepted(api: Api) -> Iterator[Check]:
    """That the service has answered, and by which clock."""
    yield Check("service", Standing.FINE, "answers, and accepts who we are")
    yield clocks(api.ahead)


def clocks(ahead: timedelta | None) -> Check:
    """How far the service's clock is ahead of this machine's, and what that does."""
    if ahead is None:
        return Check("clock", Standing.NOTE, "the service doesn't tell its time: this machine's is taken for it")
    apart = f"{abs(ahead)}".partition(".")[0]
    if abs(ahead) < _CLOCKS_APART:
        return Check("clock", Standing.FINE, f"the service's is {round(ahead.total_seconds()):+d} s from ours")
    return Check(
        "clock",
        Standing.NOTE,
        f"this machine's is {apart} {'behind' if ahead > timedelta() else 'ahead of'} the service's: nothing is lost "
        "by that, but lags are told wrongly, and certificates may be refused; set it right, with NTP say",
    )


def _shown(row: bytes, newest: odata.Stamp) -> Iterator[Check]:
    has_id = newest.key("ID") is not None
    yield Check(
        "ID",
        Standing.FINE if has_id else Standing.NOTE,
        "is shown" if has_id else "is not shown: jobID orders the scan",
    )
    try:
        value, _ = payload.decode(row)
    except ValueError as error:
        yield Check("rowversion", Standing.NOTE, f"the newest row can't be read: {error}")
        return
    names = value.keys() if isinstance(value, dict) else {}
    if "rowversion" in names:
        yield Check("rowversion", Standing.FINE, "is shown")
    elif "@odata.etag" in names:
        yield Check("rowversion", Standing.FINE, "is read from @odata.etag")
    else:
        yield Check("rowversion", Standing.NOTE, "is not shown: modifiedDate and contents tell versions apart")


def read_page(api: Api) -> Iterator[Check]:
    """Read a page through the whole of flatten, as a sync does."""
    said = ""
    for query, size in _PAGES:
        try:
            reply = api.page(query, page_size=size, attempts=_ATTEMPTS, can_shrink=True, has_another_way=True)
        except SourceError as error:
            said = str(error)
            if not isinstance(error, Refused | AskForLess):
                break
        else:
            answer = reply.answer
            yield from judge_rows(len(answer.rows), flatten(answer.rows, answer.replaced_characters))
            return
    yield Check("rows", Standing.NOTE, f"no page was answered, so its rows were not looked at: {said}")


def judge_rows(rows: int, batch: Batch) -> Iterator[Check]:
    """Say what of so many `rows`, which became this batch, can't be read: properties and reasons, never values."""
    if batch.rejects:
        reasons = most_frequent(Counter(reject.reason for reject in batch.rejects))
        yield Check(
            "rows",
            Standing.FAILED,
            f"{len(batch.rejects)} of {rows} rows of a page can't be read, so they will be missing: {reasons}; a sync "
            "keeps them in etl.rejects, and asks for them again",
        )
    else:
        yield Check("rows", Standing.FINE, f"all {rows} rows of a page can be read")
    if number := sum(bool(job.unread) for job in batch.jobs):
        forms = most_frequent(Counter(f"{name}: {form}" for job in batch.jobs for name, form in job.unread))
        yield Check(
            "values",
            Standing.NOTE,
            f"{number} of {rows} rows have values that can't be read, and are loaded without them: {forms}; the values "
            "stay in the column `extra`",
        )


def _questions(newest: odata.Stamp) -> Iterator[Question]:
    modified = newest.modified
    if modified is None:
        return
    since = odata.plus(modified, -TICK_PLAY)
    later = odata.query([f"modifiedDate ge {odata.literal(since)}"], "modifiedDate", top=_FEW)
    yield Question("$filter on modifiedDate", later, lambda reply: _all_since(reply, since), True)
    yield Question("$orderby modifiedDate desc", odata.query(order="modifiedDate desc", top=_FEW), _descends, True)
    counted = odata.query([f"modifiedDate ge {odata.literal(since)}"], top=1, count=True)
    yield Question("$count", counted, _counts, False)


def _strategy(api: Api, newest: odata.Stamp) -> Iterator[Check]:
    """What scans go by, and what that needs: the key, or modifiedDate where the key can't be filtered on."""
    goes_by = "ID" if newest.key("ID") is not None else "jobID"
    is_refused = False
    for name in ("ID", "jobID"):
        key = newest.key(name)
        for question in _key_questions(name, key, name == goes_by) if key is not None else ():
            check, refused = _asked(api, question)
            is_refused = is_refused or (refused and name == goes_by)
            yield replace(check, standing=Standing.NOTE) if refused else check
    if not is_refused:
        yield Check("strategy", Standing.FINE, f"scans go by {goes_by}")
        return
    yield Check("strategy", Standing.NOTE, f"scans go by pieces of modifiedDate: {goes_by} can't be filtered on")
    for question in _time_questions(newest):
        yield _asked(api, question)[0]


def _time_questions(newest: odata.Stamp) -> Iterator[Question]:
    modified = newest.modified
    if modified is None:
        return
    begin, end = odata.plus(modified, -_AN_HOUR), odata.plus(modified, 2 * TICK_PLAY)
    between = [f"modifiedDate ge {odata.literal(begin)}", f"modifiedDate lt {odata.literal(end)}"]

    def is_inside(reply: Reply) -> bool:
        times = _times(reply)
        return bool(times) and _counts(reply) and times == sorted(times) and begin <= times[0] and times[-1] <= end

    yield Question("pieces of modifiedDate", odata.query(between, "modifiedDate", count=True), is_inside, True)
    undated = odata.query(["modifiedDate eq null"], "modifiedDate", count=True)
    yield Question("modifiedDate eq null", undated, lambda reply: _counts(reply) and not _times(reply), True)
    beyond = odata.query(between, "modifiedDate,jobID", skip=_BEYOND, count=True)
    yield Question("$skip", beyond, lambda reply: (reply.answer.total or 0) > _BEYOND or not reply.answer.rows, True)


def _counts(reply: Reply) -> bool:
    return reply.answer.total is not None and reply.answer.total >= len(reply.answer.rows)


def _key_questions(name: str, key: Key, is_needed: bool) -> Iterator[Question]:
    """Keys that can't be compared here are only looked for: a scan of such keys is held against the source's $count."""
    above = odata.query([f"{name} gt {odata.literal(key)}"], name, top=_FEW)
    yield Question(f"$filter on {name}", above, lambda reply: _all_above(_keys(reply, name), key), is_needed)
    upward = odata.query([f"{name} le {odata.literal(key)}"], name, top=_FEW)
    yield Question(f"$orderby {name}", upward, lambda reply: _ascends(_keys(reply, name)), is_needed)


def _asked(api: Api, question: Question) -> tuple[Check, bool]:
    """How a question was answered; and whether it can't be asked, which is no lie."""
    refused = False
    try:
        is_kept = question.is_kept(api.page(question.query, attempts=_ATTEMPTS, has_another_way=True))
        detail = "is honoured" if is_kept else "is answered, but not kept"
    except SourceError as error:
        refused = isinstance(error, AskForLess) or (isinstance(error, Refused) and error.is_query)
        is_kept, detail = False, str(error)
    bad = Standing.FAILED if question.is_needed else Standing.NOTE
    return Check(question.name, Standing.FINE if is_kept else bad, detail), refused


def _page_size(api: Api) -> Check:
    try:
        rows = len(api.page(odata.query(), page_size=1, attempts=_ATTEMPTS).answer.rows)
    except SourceError as error:
        return Check("page size", Standing.NOTE, str(error))
    detail = "a page of the size that is asked for" if rows == 1 else f"the service's own, {rows} rows at the most"
    return Check("page size", Standing.FINE, detail)


def _keys(reply: Reply, name: str) -> list[Key]:
    return [key for key in (odata.stamp(row).key(name) for row in reply.answer.rows) if key is not None]


def _all_above(keys: list[Key], than: Key) -> bool:
    return than not in keys and all(odata.is_less(than, key) for key in keys if odata.comparable(key))


def _ascends(keys: list[Key]) -> bool:
    comparable = [key for key in keys if odata.comparable(key)]
    return bool(keys) and all(odata.is_less(earlier, later) for earlier, later in pairwise(comparable))


def _all_since(reply: Reply, since: datetime) -> bool:
    return bool(reply.answer.rows) and all(time >= odata.plus(since, -TICK_PLAY) for time in _times(reply))


def _descends(reply: Reply) -> bool:
    return all(later <= earlier for earlier, later in pairwise(_times(reply)))


def _times(reply: Reply) -> list[datetime]:
    return [time for time in (odata.stamp(row).modified for row in reply.answer.rows) if time is not None]
