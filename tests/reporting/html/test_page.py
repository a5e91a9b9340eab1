"""The page: it stands alone, says what the mirror holds, and has something decent to say of any mirror."""

import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ConfigError, SchemaError
from etl.postgres.connection import Connection
from etl.reporting import html
from etl.reporting.html import formatting, job_figures, operations_figures, queries
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.command import Command
from tests.support.paths import ROOT
from tests.support.scene import Scene, a_source

NOW = datetime.now(UTC)
CHARTS = 6
SCRIPT = "<script>alert('x')</script>"
_SQL = ROOT / "sql" / "page"
_QUESTIONS = sorted(path.stem for path in _SQL.glob("*.sql"))


class Reader(HTMLParser):
    """What a browser would make of the page: its elements, their attributes, and all that is written on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Notes what is written."""
        self.said += data + "\n"


def written(url: str, folder: Path, **wish: bool) -> str:
    """The text of the page about a mirror."""
    path = html.write(url, folder / "page.html", NOW, **wish)
    assert path == folder / "page.html"
    return path.read_text(encoding="utf-8")


def at(days: float) -> datetime:
    """So many days ago."""
    return NOW - timedelta(days=days)


def test_the_page_stands_alone(url: str, db: Connection, tmp_path: Path) -> None:
    """No script, no address, nothing that is fetched, and a policy that forbids it; every chart, each at two widths."""
    Scene(db, populated(300, seed=1, now=NOW)).sync()
    text = written(url, tmp_path)
    reader = Reader(text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face", text)
    assert not {"script", "link", "img", "iframe", "object", "a", "base", "form"} & set(reader.elements)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "href", "xlink:href")]
    assert "default-src 'none'" in text
    assert reader.elements.count("svg") == 2 * CHARTS
    # Twelve pictures lie in one document: an id in one of them would have to be unique in all.
    assert not [value for name, value in reader.attributes if name == "id"]


def test_its_numbers_are_the_mirrors(url: str, db: Connection, tmp_path: Path) -> None:
    """What the headline, the bars and the hours count is what was synced."""
    scene = Scene(db, populated(300, seed=1, now=NOW, days=27))
    scene.sync()
    answers = queries.ask(url)
    assert sum(row["jobs"] for row in answers.headline) == 300
    assert sum(row["jobs"] for row in answers.jobs_per_day) == 300
    assert sum(row["jobs"] for row in answers.busy_hours) == 300
    said = Reader(written(url, tmp_path)).said
    assert "Fresh and complete" in said
    assert "300" in said.split()
    [failed] = scene.rows("SELECT count(*) FROM bi.jobs WHERE job_status = 'Failed'")
    by_day = [re.fullmatch(r"\w{3} \d+ \w{3}: (\d+) jobs? failed", line) for line in set(said.splitlines())]
    assert sum(int(found[1]) for found in by_day if found) == failed[0]


def test_nobody_is_named_unless_it_is_asked_for(url: str, db: Connection, tmp_path: Path) -> None:
    """No address of a person, no link; with people, each of them, and that it is personal data."""
    Scene(db, populated(300, seed=1, now=NOW)).sync()
    text = written(url, tmp_path)
    assert not re.search(r"[\w.]@\w", text)
    assert "aims360.rest" not in text
    said = Reader(written(url, tmp_path, with_people=True)).said
    assert "operator@example.com" in said
    assert "o'hara@example.com" in said
    assert "Personal data" in said


def test_names_are_text_whatever_they_hold(url: str, db: Connection, tmp_path: Path) -> None:
    """Scripts, control characters, endless names, many accounts and statuses nobody heard of: all are only words."""
    world = World(seed=1, now=NOW)
    hostile: dict[str, Any] = {
        "createdDate": at(1),
        "startDate": at(1),
        "completedDate": at(0.99),
        "jobStatus": "Failed",
    }
    world.add(**hostile, subCategoryName=SCRIPT, categoryName='"><img src=x onerror=alert(1)>', createdBy=SCRIPT)
    world.add(**hostile, subCategoryName="\x1b[31mred\u202e & <b>", categoryName="x" * 150)
    for number in range(40):
        odd = f"<i>status {number % 9}</i>" if number % 2 else None
        world.add(createdDate=at(2), jobStatus=odd, accountCode=f"{SCRIPT}{number}", subCategoryName=None)
    Scene(db, world).sync()
    text = written(url, tmp_path, with_people=True)
    reader = Reader(text)
    assert not {"script", "img", "i onerror", "b onerror"} & set(reader.elements)
    assert SCRIPT in reader.said
    assert "all other statuses" in reader.said
    assert "no status" in reader.said
    assert "xxx…" in reader.said
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)


def test_an_empty_mirror_has_a_page(url: str, tmp_path: Path) -> None:
    """It says that nothing is there, at each place where something would be."""
    reader = Reader(written(url, tmp_path, with_people=True))
    assert "svg" not in reader.elements
    assert "Nothing was synced yet" in reader.said
    assert "nothing to compare with" in reader.said
    assert reader.elements.count("figure") == CHARTS + 1
    assert sum(value == "nothing" for name, value in reader.attributes if name == "class") == CHARTS + 2


def test_a_mirror_of_one_job_has_a_page(url: str, db: Connection, tmp_path: Path) -> None:
    """A job that was never started has no times; the rest is drawn, in whole numbers."""
    world = World(seed=1, now=NOW)
    world.add(createdDate=at(0.5), jobStatus="Failed", startDate=None, completedDate=None)
    Scene(db, world).sync()
    said = Reader(written(url, tmp_path)).said
    assert "No job of the last 30 days has a known time." in said
    assert "100.0% of 1" in said
    assert "0.5" not in said.split()


def test_jobs_of_the_future_are_no_news(url: str, db: Connection, tmp_path: Path) -> None:
    """A job dated 2099 is in no number of the last days, and no chart fails for it."""
    world = World(seed=1, now=NOW)
    future = datetime(2099, 1, 1, tzinfo=UTC)
    world.add(createdDate=future, jobStatus="Failed", startDate=future, completedDate=future, response=None)
    Scene(db, world).sync()
    said = Reader(written(url, tmp_path)).said
    assert "No job was created in the last 30 days." in said
    assert "No job ended in the last 7 days." in said
    assert "No job of the last 30 days has a known time." in said
    assert db.execute("SELECT count(*) FROM bi.category_health").fetchone() == (0,)


def test_a_day_beside_the_axis_is_not_drawn() -> None:
    """Where it is tomorrow already, the evening of a zone far west is yesterday."""
    row = {"day": NOW.date() - timedelta(days=1), "ends_by": "purge", "documents": 3, "published": 1}
    assert operations_figures.expiring([row], NOW.date(), "UTC").draw is None
    gone = {"day": NOW.date() + timedelta(days=1), "job_status": "Failed", "jobs": 2}
    assert job_figures.per_day([gone], NOW.date(), "UTC").draw is None


def test_sources_are_judged_one_by_one_the_worst_first(url: str, db: Connection, tmp_path: Path) -> None:
    """A source that stands still comes before one that is fresh, whatever their names."""
    Scene(db, populated(20, seed=1, now=NOW), a_source(name="calm")).sync()
    Scene(db, populated(20, seed=2, now=NOW - timedelta(days=3)), a_source(name="stale")).sync()
    said = Reader(written(url, tmp_path)).said
    assert said.index("stale") < said.index("calm")
    assert "3 days behind" in said


def test_hours_and_days_are_the_sources(url: str, db: Connection, tmp_path: Path) -> None:
    """The page names the time zone; two sources in different ones are each in their own."""
    Scene(db, populated(20, seed=1, now=NOW), a_source(name="east", time_zone="Asia/Tokyo")).sync()
    assert "(Asia/Tokyo)" in Reader(written(url, tmp_path)).said
    Scene(db, populated(20, seed=2, now=NOW), a_source(name="west", time_zone="America/New_York")).sync()
    assert "(each source’s own time zone)" in Reader(written(url, tmp_path)).said


def test_without_the_extra_it_says_what_to_install(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked or written."""
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ConfigError, match=re.escape('pip install "aims360-etl[report]"')):
        html.write(url, tmp_path / "page.html", NOW)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_it_for_whoever_may_read_bi(url: str, db: Connection, tmp_path: Path) -> None:
    """Nothing of AIMS360 is set; what can't be written, or isn't there to be read, is said in a line."""
    Scene(db, populated(50, seed=1, now=NOW)).sync()
    command = Command("", url, tmp_path)
    assert command.run("report", "--html", "page.html") == (0, "page.html\n", "")
    assert "operator@" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert command.run("report", "--html", "people.html", "--with-people")[0] == 0
    assert "operator@" in (tmp_path / "people.html").read_text(encoding="utf-8")
    code, output, errors = command.run("report", "--html", "nowhere/page.html")
    assert (code, output) == (2, "")
    assert "nowhere/page.html can't be written" in errors
    db.execute("ALTER SCHEMA bi RENAME TO elsewhere")
    try:
        code, output, errors = command.run("report", "--html", "none.html")
    finally:
        db.execute("ALTER SCHEMA elsewhere RENAME TO bi")
    assert (code, output) == (2, "")
    assert "run `aims360-etl migrate`" in errors
    assert not (tmp_path / "none.html").exists()


def test_without_the_views_it_says_as_a_report_does_what_to_run(empty_database: str, tmp_path: Path) -> None:
    """A database that isn't ours is a wrong setting: exit code 2, whichever way it is asked."""
    with pytest.raises(SchemaError, match="run `aims360-etl migrate`"):
        html.write(empty_database, tmp_path / "page.html", NOW)


def test_pictures_do_not_depend_on_the_machines_time_zone() -> None:
    """The same runs drawn in Tokyo and in New York are the same picture."""
    script = (
        "from datetime import UTC, datetime, timedelta\n"
        "from etl.reporting.html import operations_figures, svg\n"
        "now = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)\n"
        "rows = [dict(outcome='succeeded', kind='full', runs=1, seconds=n + 1,\n"
        "             started_at_utc=datetime(2026, 3, 28, 20) + timedelta(minutes=20 * n)) for n in range(9)]\n"
        "figure = operations_figures.runs(rows, now)\n"
        "print(svg.svg(figure.draw(svg.WIDE), figure.title, 'wide'))\n"
    )
    drawn = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
        ).stdout
        for zone in ("UTC", "Asia/Tokyo", "America/New_York")
    ]
    assert drawn[0] == drawn[1] == drawn[2]
    assert ">21:00<" in drawn[0]


@pytest.mark.parametrize("name", _QUESTIONS)
def test_each_question_says_what_it_asks_and_reads_bi_only(db: Connection, name: str) -> None:
    """Question, grain and columns in the header are those that come; it is in the list of what is asked."""
    text = queries.statement(name)
    header = re.search(r"-- Columns: +(.*?)\.\n(?:-- Notes|[A-Z])", text, re.DOTALL)
    assert header is not None
    assert text.startswith("-- Question: ")
    assert "-- Grain: " in text
    columns = db.execute(text.encode()).description or []
    assert [column.name for column in columns] == re.findall(r"\w+", re.sub(r"\n--", "", header[1]))
    assert not re.search(r"\b(aims360|etl)\.", text)
    assert name in queries.NAMES


def fresh(**change: Any) -> dict[str, Any]:
    """A row of `sql/page/freshness.sql` with nothing amiss."""
    row = {
        "source": "aims360", "time_zone": "UTC", "complete_through_utc": at(0).replace(tzinfo=None),
        "last_kind": "incremental", "last_outcome": "succeeded", "last_verdict": "complete", "open_rejects": 0,
        "scan_is_open": False, "went_back": None, "stuck": 0, "paging": "key", "window_by": "modifiedDate",
        "refused": None, "last_requests": None,
    }  # fmt: skip
    return {**row, **change}


@pytest.mark.parametrize(
    ("change", "state", "word"),
    [
        ({}, "good", "Fresh and complete"),
        ({"stuck": 1}, "look", "Jobs are stuck"),
        ({"open_rejects": 2}, "look", "Not all rows are in"),
        ({"last_verdict": "incomplete"}, "look", "Not all rows are in"),
        ({"went_back": "rowversion 12"}, "look", "Source was restored"),
        ({"complete_through_utc": at(0.1).replace(tzinfo=None)}, "look", "2 hours behind"),
        ({"complete_through_utc": at(2.5).replace(tzinfo=None)}, "bad", "2 days behind"),
        ({"complete_through_utc": None}, "bad", "Never complete"),
        ({"complete_through_utc": at(-0.02).replace(tzinfo=None)}, "good", "Fresh and complete"),
        ({"complete_through_utc": at(-0.1).replace(tzinfo=None)}, "bad", "A clock was wrong"),
        ({"last_verdict": "complete_with_rejects"}, "look", "Not all rows are in"),
        ({"last_outcome": "failed"}, "bad", "Last run failed"),
        ({"last_outcome": "interrupted", "stuck": 3}, "bad", "Last run interrupted"),
    ],
)
def test_the_verdict_names_the_worst_that_is_so(change: dict[str, Any], state: str, word: str) -> None:
    """One word for the eye and one sentence for the reader, for each way in which a mirror can be unwell."""
    found = formatting.verdict(fresh(**change), NOW)
    assert (found.state, found.word) == (state, word)


def test_the_sentence_says_when_what_and_how_many() -> None:
    """In whole sentences, in the singular where it is one."""
    said = formatting.verdict(fresh(open_rejects=1, stuck=2), NOW).sentence
    assert "The last run (incremental) succeeded and was complete." in said
    assert said.endswith("1 row can’t be read and waits; 2 jobs are stuck.")
    assert "No run was recorded yet." in formatting.verdict(fresh(last_outcome=None), NOW).sentence
    assert (
        "A run (full) is at work." in formatting.verdict(fresh(last_outcome="running", last_kind="full"), NOW).sentence
    )
    ahead = formatting.verdict(fresh(complete_through_utc=at(-2).replace(tzinfo=None)), NOW).sentence
    assert "2 days after this page was written: a clock was wrong" in ahead
    purge = formatting.verdict(fresh(last_kind="purge", last_verdict=None), NOW).sentence
    assert "The last run (purge) succeeded." in purge


def test_a_source_that_is_read_as_usual_has_no_line_about_it() -> None:
    """Whatever is refused that costs nothing; one that is dearer says what and how much, and is as well as before."""
    assert formatting.verdict(fresh(refused="count, top"), NOW).reading == ""
    found = formatting.verdict(fresh(window_by="none", refused="filter_dates, top", last_requests=11), NOW)
    assert found.reading == "aims360: refuses filters on dates; each run reads all pages (last run: 11 requests)."
    assert found.state == "good"


def test_the_page_says_what_a_service_refuses_in_our_words(url: str, db: Connection, tmp_path: Path) -> None:
    """What the service answered isn't on it, nor anything of a source whose service refuses nothing that counts."""
    options = ServiceOptions(refused=frozenset({"modifiedDate"}))
    scene = Scene(db, populated(60, seed=1, now=NOW), a_source(name="acme"), page_size=20, options=options)
    Scene(db, populated(5, seed=2, now=NOW), a_source(name="usual")).sync()
    scene.sync()
    scene.world.advance(timedelta(minutes=5))
    run = scene.sync()
    reader = Reader(written(url, tmp_path))
    said = f"acme: refuses filters on dates; each run reads all pages (last run: {run.requests} requests)."
    assert reader.said.count("refuses") == 1
    assert said in reader.said
    known = scene.one("SELECT capabilities -> 'filter_dates' ->> 'words' FROM etl.sources WHERE name = 'acme'")
    assert "cannot be used" in known
    assert "cannot be used" not in reader.said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0, "0 ms"), (0.044, "44 ms"), (0.5, "0.50 s"), (1, "1 s"), (9.4, "9.4 s"), (41, "41 s"),
     (541, "9 min"), (7200, "2.0 h"), (259200, "3.0 days")],
)  # fmt: skip
def test_durations_are_short(seconds: float | None, said: str) -> None:
    """Two digits, in the unit that fits."""
    assert formatting.span(seconds) == said


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (1, ["none", "1"]),
        (3, ["none", "1", "2", "3"]),
        (9, ["none", "1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 or more"]),
        (148, ["none", "1 to 30", "31 to 60", "61 to 90", "91 to 120", "121 or more"]),
    ],
)
def test_the_hours_colours_are_round_and_all_used(highest: int, labels: list[str]) -> None:
    """The last colour is reached, and none is explained that isn't there."""
    assert job_figures.heat_steps(highest)[1] == labels


def test_days_without_jobs_break_the_line_and_lonely_days_are_points() -> None:
    """A day without a known time is not drawn as none."""
    today = date(2026, 3, 31)
    times = {"queued_p50_seconds": 0, "queued_p95_seconds": 5, "run_p50_seconds": None, "run_p95_seconds": None}
    figure = job_figures.times([{"day": today, **times}], today, "UTC")
    assert figure.said == [
        "Tue 31 Mar, waiting in the queue: half of the jobs within 0.10 s",
        "Tue 31 Mar, waiting in the queue: 95% of the jobs within 5 s",
    ]


def test_runs_that_have_not_ended_are_not_drawn() -> None:
    """And where no other is, the page says so."""
    running = {"outcome": "running", "started_at_utc": NOW, "seconds": None, "kind": "full", "runs": 1}
    assert operations_figures.runs([running], NOW).instead == "No run of the last 14 days has ended yet."


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_colour_stands_out_from_its_ground(scheme: int) -> None:
    """Text 4.5 to 1 and marks 3 to 1, light and dark, as WCAG 2 asks; no two marks of one chart are alike."""
    style = Path(html.__file__).with_name("page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", blocks[scheme]))
    for ground in ("ground", "card"):
        for text in ("ink", "soft", "good", "look", "bad"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    marks = ["failed", "queued", "running", "done", "other1", "other2", "other3", "h5"]
    for mark in marks:
        assert contrast(colours[mark], colours["ground"]) >= 3, mark
    assert len({colours[mark] for mark in marks}) == len(marks)
    steps = [contrast(colours[f"h{step}"], colours["ground"]) for step in range(6)]
    assert steps == sorted(steps)


def contrast(one: str, other: str) -> float:
    """How much lighter one colour is than another, 1 to 21."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
