"""The analysts' questions: each has its header, its limits, and the right answer on a world made for it."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from etl.errors import ConfigError, DatabaseError, EtlError, SchemaError
from etl.postgres.connection import Connection
from etl.reporting import export_formats, reports
from etl.reporting.reports import Asked
from etl.testing.emulator import START, Faults, World
from tests.support.paths import ROOT
from tests.support.report_data import HOSTILE, busy, ran, seconds
from tests.support.scene import Scene, a_source

NAMES = reports.names()
FILES = ROOT / "sql" / "reports"
PAST = Asked(since=date(2026, 1, 1))  # START is long ago by the database's clock
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ask(url: str) -> Ask:
    """Asks a report; its rows as JSON has them."""

    def asking(name: str, asked: Asked = PAST) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(export_formats.as_json(reports.ask(url, name, asked).answer))
        return rows

    return asking


def document(name: str, expires: datetime | None, megabytes: float = 1.5) -> dict[str, Any]:
    """A document as `response` lists it."""
    expiry = expires and expires.isoformat().replace("+00:00", "Z")
    suffix = "." + name.rpartition(".")[2]
    return {"documentName": name, "SizeInMB": megabytes, "Type": suffix, "DocumentID": "x", "ExpiryDate": expiry}


def test_headers_say_question_grain_columns_notes_and_a_sample() -> None:
    """The header tells it all, and its sample has the columns that come."""
    for name in NAMES:
        report = reports.describe(name)
        assert report.question.endswith("?"), name
        assert report.grain.startswith("one row"), name
        assert report.notes, name
        text = (FILES / f"{name}.sql").read_text(encoding="utf-8")
        sample = re.search(r"^-- Sample:\n--  (.*)\n((?:--  .*\n)+)", text, re.MULTILINE)
        assert sample is not None, name
        assert tuple(map(str.strip, sample[1].split("|"))) == report.columns, name
        assert not re.search(r"@(?!example\.com)", sample[2]), name
    assert len(NAMES) >= 19


def test_reports_read_bi_and_nothing_else() -> None:
    """But the one that says which rights it needs."""
    for name in NAMES:
        text = (FILES / f"{name}.sql").read_text(encoding="utf-8")
        schemas = set(re.findall(r"^ *(?:[A-Z]+ )*(?:FROM|JOIN) (\w+)\.", text, re.MULTILINE))
        assert schemas == ({"aims360", "etl"} if name == "inline_json" else {"bi"}), name
        assert bool(reports.describe(name).rights) == (name == "inline_json")


def test_every_report_answers_with_its_columns_and_within_its_limits(url: str, db: Connection) -> None:
    """Rows without limits, none of an unknown account or of another century; the dtypes are the same."""
    busy(db)
    for name in NAMES:
        report = reports.describe(name)
        wide = Asked(since=date(2025, 1, 1) if "since" in report.takes else None)
        full = reports.ask(url, name, wide).answer
        assert tuple(full.columns) == report.columns, name
        assert len(full) > 0, name
        limits = {"account": Asked(account=HOSTILE), "since": Asked(since=date(2999, 1, 1))}
        limits["until"] = Asked(since=date(1989, 1, 1), until=date(1990, 1, 1)) if "since" in report.takes else wide
        for limit in report.takes:
            none = reports.ask(url, name, limits[limit]).answer
            assert len(none) == 0, (name, limit)
            assert [d.name for d in none.dtypes] == [d.name for d in full.dtypes], name
    assert db.execute("SELECT count(*) FROM aims360.jobs").fetchone() == (403,)


def test_what_a_report_does_not_take_is_refused(url: str) -> None:
    """An answer that looks limited and isn't would be worse than none."""
    with pytest.raises(ConfigError, match="data_freshness takes no --account; "):
        reports.ask(url, "data_freshness", Asked(account="A1"))
    with pytest.raises(ConfigError, match="stuck_jobs takes no --since and no --until; "):
        reports.ask(url, "stuck_jobs", Asked(date(2026, 1, 1), date(2026, 2, 1)))


def test_limits_that_make_no_sense_are_refused(url: str) -> None:
    """Before anything is asked: they would answer something else."""
    day = date(2026, 1, 1)
    for asked in (Asked(day, day), Asked(account=""), Asked(account="A\0"), Asked(account="\udc80")):
        with pytest.raises(ConfigError, match=r"^--since must come before|^--account: "):
            reports.ask(url, "growth", asked)


def test_an_unknown_report_names_those_near_it(url: str) -> None:
    """A slip of the finger is a hint away."""
    with pytest.raises(ConfigError, match="did you mean failing_reports"):
        reports.ask(url, "failing_report")
    with pytest.raises(ConfigError, match="--list"):
        reports.describe("../views/jobs")


def test_since_is_in_and_until_is_out(db: Connection, ask: Ask) -> None:
    """Midnight UTC of the day; a moment with its zone; one account."""
    world = World(seed=1)
    for day in (27, 28, 29):
        world.add(**ran(datetime(2026, 1, day, tzinfo=UTC)))
    world.add(**ran(datetime(2026, 1, 28, tzinfo=UTC), accountCode="A2"))
    Scene(db, world).sync()
    days = [(row["day"], row["jobs"]) for row in ask("runs_per_day", Asked(date(2026, 1, 28), date(2026, 1, 29)))]
    assert days == [("2026-01-28", 2)]
    [row] = ask("queue_by_hour", Asked(date(2026, 1, 28), date(2026, 1, 29), "A1"))
    assert row["jobs"] == 1
    west = datetime(2026, 1, 28, tzinfo=UTC).astimezone(ZoneInfo("America/Los_Angeles"))
    [row] = ask("queue_by_hour", Asked(since=west))
    assert row["jobs"] == 3


def test_failures_of_one_cause_meet(db: Connection, ask: Ask) -> None:
    """Whatever the style, the number or the white space; the commonest is the report's reason."""
    world = World(seed=1)
    for text in ("Style 'AB-100' can't be sized:\t12 sizes", 'Style "ZX" can\'t be sized: 7 sizes', "Timeout expired."):
        world.add(**ran(START, jobStatus="Failed", jobStatusText=text))
    world.add(**ran(START))
    world.add(**ran(START, jobStatus="Failed", jobStatusText=None, subCategoryName="Aging"))
    world.add(**ran(START, subCategoryName="Fine"))
    world.add(**ran(START, jobStatus="Queued"))
    Scene(db, world).sync()
    sized = "Style '…' can't be sized: # sizes"
    first, second = ask("failing_reports")
    assert first == {
        "category_name": "Exports",
        "sub_category_name": "Aging",
        "ended": 1,
        "failed": 1,
        "failure_rate": 1.0,
        "commonest_cause": "no reason given",
        "with_commonest_cause": 1,
        "causes": 1,
    }
    assert list(second.values()) == ["Exports", "EDI", 4, 3, 0.75, sized, 2, 2]
    causes = {row["cause"]: (row["failed"], row["share"], row["sub_categories"]) for row in ask("failure_causes")}
    assert causes == {sized: (2, 0.5, 1), "Timeout expired.": (1, 0.25, 1), "no reason given": (1, 0.25, 1)}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("  ", None),
        ("Order 4711, line 3: 12.50 EUR", "Order # line # EUR"),
        ("job d29fac30-650a-4ff2-b2b1-acab3c7472ea gone at 2026-03-02 09:00:00", "job # gone at #"),
        ("can't read 'don' of «Été» and “x y”", "can't read '…' of '…' and '…'"),
        ("送り状 123 失敗", "送り状 # 失敗"),
    ],
)
def test_a_cause_is_what_does_not_differ_from_job_to_job(db: Connection, text: str, cause: str | None) -> None:
    """Numbers, dates, ids and quoted names are taken out; an apostrophe is no quotation mark."""
    assert db.execute("SELECT bi.cause_of(%s)", (text,)).fetchone() == (cause,)


def test_failures_by_person_and_category(db: Connection, ask: Ask) -> None:
    """Of the jobs that have ended; who never failed isn't named."""
    world = World(seed=1)
    for status in ("Failed", "Completed", "Queued"):
        world.add(**ran(START, jobStatus=status, createdBy="a@example.com"))
    world.add(**ran(START, createdBy="b@example.com"))
    Scene(db, world).sync()
    assert [list(row.values()) for row in ask("failures_by_person")] == [["a@example.com", "Exports", 2, 1, 0.5]]


def test_month_end_is_the_last_three_days_of_the_sources_zone(db: Connection, ask: Ask) -> None:
    """Who waited longest then comes first; what was rerun didn't wait."""
    world = World(seed=1)
    end, middle = datetime(2026, 2, 26, 12, tzinfo=UTC), datetime(2026, 2, 10, tzinfo=UTC)
    night = datetime(2026, 3, 1, 2, tzinfo=UTC)  # February still, on the west coast
    for created, waited, who in (
        (end, 100, "a"), (night, 200, "a"), (middle, 10, "a"),
        (end, 300, "b"),
        (middle, 900, "c"),
    ):  # fmt: skip
        world.add(**ran(created, waited, createdBy=f"{who}@example.com"))
    world.add(**ran(end, 5000, createdBy="b@example.com", numberOfAttempts=1))
    Scene(db, world, a_source(time_zone="America/Los_Angeles")).sync()
    first, second = (list(row.values()) for row in ask("month_end_waiting"))
    assert first == ["b@example.com", 1, 300, 300, 300, 0, None]
    assert second == ["a@example.com", 2, 150, 195, 200, 1, 10]


def test_documents_that_go_unpublished(db: Connection, ask: Ask) -> None:
    """By their own expiry or their job's purge, whichever comes first, within a week or until a day."""
    now = datetime.now(UTC)
    days = [now + timedelta(days=n) for n in range(31)]
    world = World(seed=1, now=now)
    private = ran(now, publishLinkAccessScope="Private", purgeDateTime=days[30])
    for name, expires, more in (
        ("by_expiry.csv", days[2], {}),
        ("by_purge.csv", days[20], {"purgeDateTime": days[3]}),
        ("later.csv", days[10], {}),
        ("public.csv", days[2], {"publishLinkAccessScope": "PUBLIC", "accountCode": "A2"}),
    ):
        world.add(**{**private, **more}, response=json.dumps([document(name, expires)]))
    Scene(db, world).sync()
    found = [(row["document_name"], row["ends_by"]) for row in ask("unpublished_documents", Asked())]
    assert found == [("by_expiry.csv", "expiry"), ("by_purge.csv", "purge")]
    until = Asked(until=days[12].date())
    assert [row["document_name"] for row in ask("unpublished_documents", until)][2:] == ["later.csv"]
    assert [list(row.values())[:2] for row in ask("expiring_documents", Asked())] == [["A1", 1], ["A2", 1]]
    calendar = {row["day_utc"]: list(row.values())[1:] for row in ask("purge_calendar", Asked())}
    assert calendar == {
        days[2].date().isoformat(): [0, 2, 3.0, 1, 1.5],
        days[3].date().isoformat(): [1, 1, 1.5, 1, 1.5],
        days[10].date().isoformat(): [0, 1, 1.5, 1, 1.5],
        days[30].date().isoformat(): [3, 0, 0, 0, 0],
    }


def test_jobs_that_hang(db: Connection, ask: Ask) -> None:
    """Open, and unchanged for over an hour by the mirror's own time."""
    world = World(seed=1)
    hangs = {"jobStatus": "Inprogress", "completedDate": None, "percentCompleted": 40}
    stuck = world.add(**{**ran(START - timedelta(hours=4)), **hangs}, modifiedDate=START - timedelta(hours=3))
    world.add(**{**ran(START - timedelta(hours=4)), **hangs}, modifiedDate=START - timedelta(minutes=10))
    world.add(**ran(START - timedelta(hours=4)), modifiedDate=START - timedelta(hours=3))
    Scene(db, world).sync()
    [row] = ask("stuck_jobs", Asked(account="A1"))
    assert (row["job_id"], row["percent_completed"], row["unchanged_hours"]) == (stuck.job_id, 40, 3.0)


def test_reruns_that_helped_and_those_that_did_not(db: Connection, ask: Ask) -> None:
    """A failed attempt that a completed one follows; what polling didn't see is said so."""
    world = World(seed=1)
    scene = Scene(db, world)
    states = {
        "helped": ("Failed", "Completed"),
        "did not": ("Failed", "Failed"),
        "open": ("Failed", "Queued"),
        "for nothing": ("Completed", "Completed"),
        "end not seen": ("Inprogress", "Completed"),
    }
    jobs = {what: world.add(**ran(START, jobStatus=before)) for what, (before, _) in states.items()}
    world.add(**ran(START, numberOfAttempts=2))  # its earlier attempts were before the mirror's time
    scene.sync()
    world.advance(timedelta(minutes=1))
    for what, (_, after) in states.items():
        world.change(jobs[what], jobStatus=after, numberOfAttempts=1)
    scene.sync()
    [row] = ask("reruns_that_helped")
    assert list(row.values()) == ["Exports", "EDI", 6, 3, 1, 1, 1, 1, 2, 0.5]


def test_failed_jobs_that_can_be_run_again(db: Connection, ask: Ask) -> None:
    """Those that the source allows it for, and whose last moment hasn't passed; that moment first."""
    now = datetime.now(UTC)
    world = World(seed=1, now=now)
    failed = ran(now, jobStatus="Failed", canReRun="Yes")
    free = world.add(**failed)
    soon = world.add(**failed, maximumDateTimeToExecuteJob=(now + timedelta(days=1)).isoformat())
    world.add(**failed, maximumDateTimeToExecuteJob=(now - timedelta(days=1)).isoformat())
    world.add(**{**failed, "canReRun": "No"})
    world.add(**{**failed, "jobStatus": "Completed"})
    Scene(db, world).sync()
    assert [row["job_id"] for row in ask("can_be_rerun")] == [soon.job_id, free.job_id]


def test_load_and_queue_by_the_hour_of_the_sources_zone(db: Connection, ask: Ask) -> None:
    """Nine in the morning is nine before and after the clocks change."""
    world = World(seed=1, now=datetime(2026, 3, 10, tzinfo=UTC))
    for created, waited in (
        (datetime(2026, 3, 2, 17, 30, tzinfo=UTC), 10),
        (datetime(2026, 3, 2, 17, 40, tzinfo=UTC), 20),
        (datetime(2026, 3, 9, 16, 30, tzinfo=UTC), 120),
    ):
        world.add(**ran(created, waited))
    Scene(db, world, a_source(time_zone="America/Los_Angeles")).sync()
    [row] = ask("load_by_hour")
    assert list(row.values()) == [1, "Monday", 9, 3, 2, 1.5, 2]
    [row] = ask("queue_by_hour")
    assert list(row.values()) == [9, 3, 20, 110, 120, 0.333]


def test_growth_outlives_the_purge(db: Connection, ask: Ask) -> None:
    """Month over month of jobs a day, failures and documents with them; the same when the jobs are gone."""
    world = World(seed=1)
    soon = START + timedelta(days=1)
    paper = json.dumps([document("a.csv", None)])
    for created, status in (
        (datetime(2026, 1, 15, tzinfo=UTC), "Completed"), (datetime(2026, 1, 15, tzinfo=UTC), "Failed"),
        *[(datetime(2026, 2, 10, tzinfo=UTC), "Completed")] * 3,
    ):  # fmt: skip
        world.add(**ran(created, 10, 3600, jobStatus=status, purgeDateTime=soon, response=paper))
    world.add(**ran(START, 10, 3600, jobStatus="Queued", response=None))  # a source without jobs purges nothing
    scene = Scene(db, world)
    scene.sync()
    before = ask("growth"), ask("service_levels"), ask("accounts_by_load"), ask("times_by_category")
    assert [list(row.values()) for row in before[0]] == [
        ["2026-01-01", 1, 2, 2.0, None, 1, 0.5, 2, 2.0],
        ["2026-02-01", 1, 3, 3.0, 0.5, 0, 0.0, 3, 3.0],
        ["2026-03-01", 1, 1, 1.0, -0.667, 0, None, 0, 1.0],
    ]
    assert [list(row.values()) for row in before[3]] == [["Exports", 6, 10.0, 3600.0]]
    world.advance(timedelta(days=3))
    scene.sync()
    assert scene.one("SELECT count(*) FROM bi.jobs") == 1
    assert (ask("growth"), ask("service_levels"), ask("accounts_by_load"), ask("times_by_category")) == before


def test_service_levels_and_accounts(db: Connection, ask: Ask) -> None:
    """Shares and percentiles of a month; which account has most of the jobs and of the time."""
    world = World(seed=1)
    for waited, took, account in ((5, 100, "A1"), (5, 100, "A1"), (5, 100, "A1"), (100, 900, "A2")):
        world.add(**ran(START, waited, took, accountCode=account))
    Scene(db, world).sync()
    [month] = ask("service_levels")
    assert [month[name] for name in ("jobs", "started_within_a_minute", "ran_within_five_minutes")] == [4, 0.75, 0.75]
    assert 2 <= month["median_queued_seconds"] <= 5
    assert 60 <= month["p95_queued_seconds"] <= 120
    assert 600 <= month["p95_run_seconds"] <= 1800
    first, second = ask("accounts_by_load")
    assert list(first.values()) == ["A1", 3, 0.75, 0.1, 0.25, 0, 0.0, first["documents"], 0]
    assert (second["account_code"], second["share_of_run_time"]) == ("A2", 0.75)


def test_what_is_slower_than_before_comes_first(db: Connection, ask: Ask) -> None:
    """The last week against the four before it."""
    now = datetime.now(UTC)
    world = World(seed=1, now=now)
    for _ in range(20):
        for kind, then, lately in (("Slower", 50, 200), ("The same", 50, 50)):
            world.add(**ran(now - timedelta(days=15), 1, then, subCategoryName=kind))
            world.add(**ran(now - timedelta(days=3), 1, lately, subCategoryName=kind))
    Scene(db, world).sync()
    first, second = ask("slower_than_before", Asked())
    assert (first["sub_category_name"], first["jobs"], first["jobs_before"]) == ("Slower", 20, 20)
    assert first["run_p95_ratio"] > 2
    assert second["run_p95_ratio"] == 1
    slowest, _ = ask("slowest_reports", Asked())
    assert list(slowest.values()) == ["Slower", 20, 0, 200, 200]


def test_documents_by_type(db: Connection, ask: Ask) -> None:
    """How many, how large, and how many of them published; the heaviest first."""
    world = World(seed=1)
    listed = [document("a.csv", None, 1.25), document("b.csv", None, 0.75), document("c.pdf", None, 9)]
    world.add(**ran(START, publishLinkAccessScope="Private", response=json.dumps(listed)))
    world.add(**ran(START, publishLinkAccessScope="Public", response=json.dumps(listed[:1])))
    Scene(db, world).sync()
    assert [list(row.values()) for row in ask("documents_by_type")] == [
        [".pdf", 1, 9.0, 9.0, 9.0, 0, 0.0],
        [".csv", 3, 3.3, 1.08, 1.25, 1, 0.333],
    ]


def test_freshness_and_runs_of_the_pipeline(db: Connection, ask: Ask) -> None:
    """A good run and a bad one are told apart, with the reason."""
    world = World(seed=1)
    world.ties(3, **ran(START))
    scene = Scene(db, world)
    scene.sync()
    scene.emulator.set_faults(Faults(rate=1.0, kinds=("expired-token",)))
    world.advance(timedelta(hours=1))
    with pytest.raises(EtlError):
        scene.sync()
    [fresh] = ask("data_freshness", Asked())
    assert (fresh["complete_through_utc"], fresh["last_outcome"]) == ("2026-03-02T09:00:00Z", "failed")
    bad, good = sorted(ask("pipeline_runs"), key=lambda row: str(row["outcome"]))
    assert (good["outcome"], good["inserted"], good["last_error"]) == ("succeeded", 3, None)
    assert (bad["outcome"], bad["runs"]) == ("failed", 1)
    assert bad["last_error"]


def test_answers_in_line_are_unpacked(db: Connection, ask: Ask) -> None:
    """An object by its properties, a list by its elements, anything else as it is."""
    world = World(seed=1)
    for answer in ('{"updated": 3, "note": "ok", "skipped": [1]}', '["x", {"sku": "A"}]', "{}"):
        world.advance(seconds(1))
        world.add(**ran(world.now, responseType="In-line JSON", response=answer))
    Scene(db, world).sync()
    found = [tuple(row.values())[5:] for row in ask("inline_json")]
    assert found == [
        (None, "note", "string", "ok"),
        (None, "skipped", "array", "[1]"),
        (None, "updated", "number", "3"),
        (0, None, "string", "x"),
        (1, "sku", "string", "A"),
        (None, None, "object", "{}"),
    ]


def test_a_database_without_the_views_says_what_to_do(empty_database: str) -> None:
    """Each report names the next step."""
    for name in NAMES:
        with pytest.raises(SchemaError, match="run `aims360-etl migrate`"):
            reports.ask(empty_database, name)


def test_a_statement_of_ones_own_can_read_and_nothing_else(url: str) -> None:
    """And it is one: a first of two could end the transaction. What Postgres says of a mistake comes through."""
    assert reports.read(url, "SELECT 7 % 4 AS rest").to_dict("list") == {"rest": [3]}
    with pytest.raises(DatabaseError, match="read-only transaction"):
        reports.read(url, "CREATE TABLE bi.mine (a int)")
    with pytest.raises(DatabaseError, match="multiple commands"):
        reports.read(url, "COMMIT; BEGIN READ WRITE; CREATE TABLE bi.mine (a int)")
    with pytest.raises(DatabaseError, match="syntax error"):
        reports.read(url, "SELEC 1")
    with pytest.raises(ConfigError, match="gives no rows"):
        reports.read(url, "SET search_path = bi")
