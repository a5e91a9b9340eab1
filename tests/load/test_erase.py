"""Erasing: all of an account or a person goes, day totals stay, and it is told what still stands where."""

import json
import os
import pty
import select
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, LiteralString

import pytest
from psycopg import sql

from etl.config.validation import PURGE_MODES
from etl.errors import ConfigError, EtlError, Locked
from etl.load import erase
from etl.postgres import locks
from etl.postgres.connection import Connection, connect
from etl.testing.chaos import mutations
from etl.testing.chaos.invariants import Laws
from etl.testing.emulator import World, populated
from tests.support.command import Command
from tests.support.day_totals import TOTALS_BY_SOURCE
from tests.support.processes import Child
from tests.support.scene import Scene, a_source

ANN = "ann.o'lee+etl@example.com"
ENCODED = "Ann.O%27Lee%2Betl%40Example.com"
JOANN = "jo" + ANN
ANN_AU = ANN + ".au"
OURS, THEIRS = "AZ031", "AZ022"


def a_world(rate: float = 0) -> World:
    """A company in which Ann made jobs, changed others', and is named in all kinds of places."""
    world = populated(80, seed=1, rate=rate)
    documents = json.dumps([{"documentName": f"for {ANN}.xlsx", "DownloadLink": f"https://x/{ENCODED}", "SizeInMB": 1}])
    world.add(createdBy=ANN, modifiedBy=JOANN, accountCode=OURS, response=documents)
    world.add(createdBy=ANN.upper(), modifiedBy=ANN, accountCode=THEIRS)
    world.add(createdBy=f"Ann O'Lee <{ANN}>", modifiedBy=JOANN, accountCode=THEIRS)
    world.add(createdBy=JOANN, modifiedBy=ANN.title(), accountCode=OURS, response=documents)
    world.add(
        createdBy=ANN_AU,
        modifiedBy=JOANN,
        accountCode=OURS,
        jobDescription=f"asked for by {ANN}, not by {JOANN}",
        jobStatusText=f"sent to\n{ANN}.",
        clientRequestId=f"mailto:{ANN}",
        requestURL=f"https://x/?who={ENCODED}&x=1",
        publishLink=f"https://x/%3A{ENCODED}",
        responseType="In-line JSON",
        response=json.dumps({"to": [f"x\n{ANN}", JOANN], ANN: 1}),
    )
    world.add(createdBy=JOANN, response=f"a text for {ANN}", responseType="Publishlink")
    world.add(createdBy=JOANN, overrides={"DatabaseName": [f"by {ANN}"]}, accountCode=THEIRS)
    world.add(createdBy=JOANN, overrides={"DatabaseName": ["unreadable"]}, accountCode=OURS)
    return world


def mirrored(db: Connection, mode: str = "delete", rate: float = 0) -> Scene:
    """A mirror of that company, with fetched documents."""
    scene = Scene(db, a_world(rate), a_source(purge=mode))
    assert scene.sync().counts.rejected == 2
    return scene


def fetched(scene: Scene, where: LiteralString, *given: object) -> None:
    """Documents of these jobs that were fetched, a file each."""
    scene.db.execute(
        sql.SQL("""
            INSERT INTO aims360.document_archive (
                source_id, job_id, document_name, account_code, link_sha256, path, bytes, sha256, fetched_at
            )
            SELECT source_id, job_id, 'a.xlsx', account_code, 'x', '/archive/' || job_id, 1, 'x', now()
            FROM aims360.jobs WHERE {}
        """).format(sql.SQL(where)),
        given or None,
    )


def everything(db: Connection) -> str:
    """All texts of all tables, as one."""
    tables = db.execute("""
        SELECT table_schema, table_name FROM information_schema.tables
        WHERE table_schema IN ('aims360', 'etl', 'bi') AND table_type = 'BASE TABLE'
    """).fetchall()
    read = sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t")
    rows = [row for place in tables for row in db.execute(read.format(sql.Identifier(*map(str, place)))).fetchall()]
    assert len(rows) > 80
    return "\n".join(str(row[0]) for row in rows).lower()


def gone(scene: Scene, wish: erase.Wish) -> erase.Erased:
    """It is erased; what was told before is what was done, and the totals and laws are as they were."""
    before, laws = scene.rows(TOTALS_BY_SOURCE), Laws()
    assert laws.broken(scene.db) == []
    found = erase.look(scene.db, wish)
    done = erase.erase(scene.db, wish, scene.clock)
    assert done == found
    assert scene.rows(TOTALS_BY_SOURCE) == before
    assert laws.broken(scene.db) == []
    return done


@pytest.mark.parametrize("mode", PURGE_MODES)
def test_nothing_of_a_person_is_left(db: Connection, mode: str) -> None:
    """Their jobs, their name on others' jobs, in texts, links, JSON, rejected rows and the ledger; in every mode."""
    scene = mirrored(db, mode)
    db.execute("UPDATE etl.runs SET error = %s, notes = ARRAY['x', %s]", (f"no {ANN}", f"by {ANN}."))
    fetched(scene, "created_by = %s", ANN)
    done = gone(scene, erase.Wish(person=ANN.swapcase()))
    assert (done.jobs, done.documents, done.rejects, done.archived, done.left) == (3, 4, 1, 1, {})
    assert done.names == 5  # three jobs, a document, a run
    assert [file.startswith("/archive/") for file in done.files] == [True]
    text = everything(db)
    others = text.replace(JOANN, "").replace(ANN_AU, "")
    for form in (ANN, ENCODED.lower()):
        assert form not in others
    assert JOANN in text
    assert ANN_AU in text
    [kept] = scene.rows(
        "SELECT job_description, job_status_text, request_url, publish_link, response_json, modified_by "
        "FROM aims360.jobs WHERE created_by = %s",
        ANN_AU,
    )
    assert kept == (
        f"asked for by (erased), not by {JOANN}",
        "sent to\n(erased).",
        None,
        None,
        {"to": ["x\n(erased)", JOANN], "(erased)": 1},
        JOANN,
    )
    assert scene.one("SELECT notes FROM etl.runs") == ["x", "by (erased)."]


def test_erasing_is_logged_without_the_name(db: Connection) -> None:
    """Who did it, when, what kind, and how much; also where nothing was found."""
    scene = mirrored(db)
    for wish in (erase.Wish(person=ANN), erase.Wish(account=OURS, source="aims360"), erase.Wish(person="no@body.com")):
        gone(scene, wish)
    logged = scene.rows("SELECT kind, account_code, source_id, jobs > 0, erased_by, erased_at FROM etl.erasures")
    me, now = db.info.user, scene.clock.now()
    assert logged == [
        ("person", None, None, True, me, now),
        ("account", OURS, 1, True, me, now),
        ("person", None, None, False, me, now),
    ]


def test_a_name_does_not_come_back_with_a_value_that_could_not_be_read(db: Connection) -> None:
    """The source is not asked for such a job again: its version is the same, with the name in it."""
    world = World(seed=3)
    job = world.add(createdBy=JOANN, jobDescription=f"for {ANN}", overrides={"percentCompleted": "half"})
    other = world.add(createdBy=JOANN, overrides={"percentCompleted": "half"})
    scene = Scene(db, world)
    scene.sync()
    erase.erase(db, erase.Wish(person=ANN), scene.clock)
    settled = dict(scene.rows("SELECT job_id, settled FROM etl.unread_values"))
    assert settled == {job.job_id: True, other.job_id: False}
    for full in (False, True):
        world.advance(timedelta(hours=1))
        scene.sync(full=full)
        told = scene.one("SELECT job_description FROM aims360.jobs WHERE job_id = %s", job["jobID"])
        assert told == "for (erased)"


@pytest.mark.parametrize("mode", PURGE_MODES)
def test_an_account_goes_and_its_days_stay(db: Connection, mode: str) -> None:
    """Jobs, documents, history, rejected rows and the rows of fetched documents; its neighbours keep theirs."""
    scene = mirrored(db, mode)
    scene.world.advance(timedelta(days=12))
    scene.sync()
    fetched(scene, "account_code = %s", OURS)
    jobs = scene.rows("SELECT account_code, count(*) FROM aims360.jobs GROUP BY 1 ORDER BY 1")
    done = gone(scene, erase.Wish(account=OURS))
    assert done.jobs == done.archived == dict(jobs)[OURS]
    assert len(done.files) == done.archived
    assert done.rejects == 1
    assert scene.rows("SELECT account_code, count(*) FROM aims360.jobs GROUP BY 1 ORDER BY 1") == [
        row for row in jobs if row[0] != OURS
    ]
    for table in ("job_documents", "document_archive"):
        count = sql.SQL("SELECT count(*) FROM aims360.{} WHERE account_code = %s").format(sql.Identifier(table))
        assert db.execute(count, (OURS,)).fetchone() == (0,)
    assert scene.one("SELECT sum(jobs) FROM bi.job_daily WHERE account_code = %s", OURS) > 0
    reasons = scene.rows("SELECT DISTINCT reason FROM aims360.purged_jobs WHERE account_code = %s", OURS)
    assert reasons == [("purged",)]


@pytest.mark.parametrize("mode", PURGE_MODES)
def test_what_the_source_shows_unchanged_does_not_come_back(db: Connection, mode: str) -> None:
    """Neither with a sync, nor with one of all rows, nor by a comparison; what has a later purge date does."""
    scene = mirrored(db, mode)
    gone(scene, erase.Wish(account=OURS))
    scene.sync(full=True, rewrite=True)
    assert scene.reconcile(repair=True).counts.inserted == 0
    scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE account_code = %s", OURS) == 0
    before = scene.one("SELECT sum(jobs) FROM bi.job_daily")
    job = next(j for j in scene.world.jobs() if scene.world.payload(j)["accountCode"] == OURS)
    scene.world.change(job, purgeDateTime="2030-01-01T00:00:00Z")
    scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE account_code = %s", OURS) == 1
    assert scene.one("SELECT sum(jobs) FROM bi.job_daily") == before
    assert Laws().broken(db) == []


@pytest.mark.parametrize("seed", range(3))
def test_syncs_go_on_after_an_erasure(db: Connection, seed: int) -> None:
    """Whatever the source goes through then: laws and totals hold, and nobody is taken for a restore."""
    scene, rng = mirrored(db, PURGE_MODES[seed], rate=20), Random(seed)
    gone(scene, erase.Wish(account=OURS))
    gone(scene, erase.Wish(person=ANN))
    for event in rng.sample(mutations.ALL, min(8, len(mutations.ALL))):
        event.happen(scene.world, rng)
        scene.world.advance(timedelta(hours=20))
        scene.sync()
        assert Laws().broken(db) == []


def test_in_the_midst_of_a_first_scan_it_holds_too(db: Connection) -> None:
    """Nothing is counted yet then: once the scan came to its end all days are right, the erased jobs' too."""
    scene = Scene(db, populated(300, seed=5, rate=0))
    calls = iter(range(10**6))

    def goes_away(environ: Any, start: Any) -> Any:
        if next(calls) > 2:
            raise ConnectionError
        return scene.emulator(environ, start)

    with pytest.raises(EtlError):
        scene.sync(app=goes_away)
    account = scene.one("SELECT min(account_code) FROM aims360.jobs")
    assert erase.erase(db, erase.Wish(account=account), scene.clock).jobs > 0
    scene.sync()
    assert scene.one("SELECT sum(jobs) FROM bi.job_daily") == 300
    assert Laws().broken(db) == []


def test_a_source_can_be_chosen(db: Connection) -> None:
    """The others' jobs of the same code or person stay; a source that nobody knows is told."""
    scene = mirrored(db)
    other = Scene(db, World(seed=4), a_source(name="other"))
    other.world.add(createdBy=ANN, accountCode=OURS)
    other.sync()
    done = erase.erase(db, erase.Wish(person=ANN, source="aims360"), scene.clock)
    assert (done.jobs, done.left) == (3, {"aims360.jobs.created_by": 1})  # told: it is all that is left
    erase.erase(db, erase.Wish(account=OURS, source="aims360"), scene.clock)
    kept = "SELECT s.name FROM aims360.jobs JOIN etl.sources AS s USING (source_id) WHERE account_code = %s"
    assert other.rows(kept, OURS) == [("other",)]
    with pytest.raises(ConfigError, match="--source: nothing was synced of a source called 'third'"):
        erase.erase(db, erase.Wish(person=ANN, source="third"), scene.clock)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (erase.Wish(), "one of the two"),
        (erase.Wish(account="a", person=ANN), "one of the two"),
        (erase.Wish(account=""), "--account: is empty"),
        (erase.Wish(account="a\0"), "no text of Postgres can"),
        (erase.Wish(person="Ann"), "--person: is no e-mail address"),
        (erase.Wish(person="%@%"), "--person: is no e-mail address"),
        (erase.Wish(person="ann lee@example.com"), "--person: is no e-mail address"),
    ],
)
def test_a_wish_that_means_nothing_is_refused(db: Connection, wish: erase.Wish, said: str) -> None:
    """Before anything is looked for; a person's name is not repeated."""
    with pytest.raises(ConfigError, match=said) as caught:
        erase.look(db, wish)
    assert "ann lee" not in str(caught.value)


def test_it_waits_for_no_run(db: Connection, url: str) -> None:
    """While a run holds a source nothing is erased, of no source."""
    scene = mirrored(db)
    with connect(url) as other, locks.held(other, "aims360", 1), pytest.raises(Locked, match="'aims360' is held by"):
        erase.erase(db, erase.Wish(person=ANN), scene.clock)
    assert erase.look(db, erase.Wish(person=ANN)).jobs == 3
    assert scene.rows("SELECT * FROM etl.erasures") == []


def test_nothing_is_fetched_beside_it(db: Connection, url: str, command: Command) -> None:
    """What was chosen before would come back after it: files, and their rows. Fetches are beside each other."""
    scene = Scene(db, World(seed=1))
    refused = pytest.raises(Locked, match="'aims360' is held by aims360-etl on")
    with connect(url) as other, locks.fetching(other, "aims360", 1), locks.fetching(db, "aims360", 1), refused:
        erase.erase(db, erase.Wish(person=ANN), scene.clock)
    with connect(url) as other, locks.erasing(other, "aims360", 1):
        code, _, errors = command.run("documents", "fetch", "--to", "kept")
    assert (code, "is held by aims360-etl on" in errors) == (3, True), errors
    assert erase.erase(db, erase.Wish(person=ANN), scene.clock).jobs == 3


def test_where_the_name_still_stands_is_told(db: Connection) -> None:
    """What counts for day totals isn't written anew: then people must decide."""
    scene = mirrored(db)
    scene.world.add(categoryName=f"for {ANN}", createdBy=JOANN)
    scene.sync()
    db.execute("INSERT INTO bi.account_access VALUES (%s, NULL, 'AZ022')", (ANN,))
    done = erase.erase(db, erase.Wish(person=ANN), scene.clock)
    places = ("aims360.jobs", "aims360.live_daily")
    assert done.left == {f"{place}.category_name": 1 for place in places} | {"bi.account_access.role_name": 1}


@pytest.fixture
def command(db: Connection, url: str, tmp_path: Path) -> Command:
    """The command, with a mirror and no source: it asks none."""
    mirrored(db)
    return Command("http://127.0.0.1:1", url, tmp_path)


def test_the_command_asks_nobody_and_does_nothing_without_yes(command: Command, db: Connection) -> None:
    """In a script: --dry-run counts, without --yes it ends with 2; with it all is done, said, and without the name."""
    code, output, errors = command.run("erase", "--person", ANN, "--dry-run")
    assert (code, errors) == (0, "")
    assert output.startswith("would go: 3 jobs with 4 documents, 4 names in other rows, 1 rejected rows")
    code, said, errors = command.run("erase", "--person", ANN)
    assert code == 2
    assert "--yes: is needed where nobody can be asked; nothing was erased" in errors
    assert db.execute("SELECT count(*) FROM etl.erasures").fetchone() == (0,)
    code, output, more = command.run("erase", "--person", ANN, "--yes", "--json")
    assert code == 0
    assert json.loads(output)["jobs"] == 3
    assert "comes back when it shows a newer version" in more
    assert ANN not in (said + errors + output + more).lower()
    code, output, _ = command.run("erase", "--account", OURS, "--source", "aims360", "--yes")
    assert (code, output.startswith("erased: ")) == (0, True)
    code, _, errors = command.run("erase")
    assert (code, "one of the two" in errors) == (2, True)


def test_the_command_ends_with_4_where_the_name_still_stands(command: Command, db: Connection) -> None:
    """Done, but not all is well."""
    db.execute("INSERT INTO bi.account_access VALUES (%s, NULL, 'AZ022')", (ANN,))
    code, _, errors = command.run("erase", "--person", ANN, "--yes")
    assert (code, "still stands in 1 rows of bi.account_access.role_name" in errors) == (4, True)
    assert ANN not in errors


def test_the_command_ends_with_3_while_a_run_holds_the_source(command: Command, url: str) -> None:
    """As a second sync does."""
    with connect(url) as other, locks.held(other, "aims360", 1):
        code, _, errors = command.run("erase", "--person", ANN, "--yes")
    assert (code, "nothing was done" in errors) == (3, True)


@pytest.mark.parametrize(("answer", "expected"), [(b"n\n", 1), (b"\n", 1), (b"y\n", 0)])
def test_on_a_terminal_it_asks(command: Command, db: Connection, answer: bytes, expected: int) -> None:
    """With the counts before it; only a yes erases."""
    ours, theirs = pty.openpty()
    with Child(
        [sys.executable, "-m", "etl", "erase", "--person", ANN],
        env=command.environ,
        cwd=command.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b"".join(_read(ours, until=b"[y/N]"))
        os.write(ours, answer)
        said += b"".join(_read(ours))
    os.close(ours)
    assert b"would go: 3 jobs" in said
    assert process.returncode == expected
    assert db.execute("SELECT count(*) FROM etl.erasures").fetchone() == (expected == 0,)


def _read(terminal: int, until: bytes | None = None) -> Iterator[bytes]:
    """What is written there, until it says that, or ends."""
    said = b""
    while until is None or until not in said:
        assert select.select([terminal], [], [], 60)[0]
        try:
            data = os.read(terminal, 4096)
        except OSError:  # nobody is there any more
            return
        if not data:
            return
        said += data
        yield data
