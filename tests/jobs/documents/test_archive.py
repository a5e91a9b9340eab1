"""Outputs are kept before they go: whole, once, in their place, by the rules of who is asked, whatever is killed."""

import hashlib
import json
import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from etl.config.secrets import PasswordGrant, Secret
from etl.errors import ArchiveError, ConfigError
from etl.jobs.documents import partial_files, selection, stores
from etl.jobs.documents.archive import Failure, Fetched, reasons
from etl.jobs.documents.selection import Wish
from etl.postgres.connection import Connection, connected
from etl.testing.emulator import Emulator, World, populated, serve
from tests.support import known_secrets
from tests.support.command import Command
from tests.support.documents import Stage
from tests.support.gateway import App
from tests.support.logins import a_login, as_role
from tests.support.paths import ROOT
from tests.support.scene import BASE, TOKEN

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FILES = "https://files.example"


@pytest.fixture
def world() -> World:
    """A source that stands still, whose links lead to it."""
    return World(seed=1, links=BASE)


@pytest.fixture
def stage(db: Connection, world: World, tmp_path: Path) -> Stage:
    """Its mirror, still empty."""
    return Stage(db, world, str(tmp_path / "kept"))


def files(folder: str) -> list[Path]:
    """All files of a folder but the parts."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file() and ".parts" not in path.parts)


def answering(
    status: str = "200 OK", body: bytes = b"x" * 20_000, content_type: str = "application/octet-stream", **headers: str
) -> App:
    """A service that has one answer."""

    def app(_environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        start(status, [("Content-Type", content_type), *named])
        return [body]

    return app


def only_failure(fetched: Fetched) -> str:
    """Why the one that failed did."""
    [failure] = fetched.failures
    return failure.reason


def test_what_jobs_made_is_kept_and_recorded_once(db: Connection, tmp_path: Path) -> None:
    """Each output is a file with the source's bytes, and a row; the next call fetches nothing, links stay unknown."""
    world = populated(60, seed=3, now=NOW, rate=0, links=BASE)
    stage = Stage(db, world, str(tmp_path))
    stage.sync()
    stage.set(credentials=PasswordGrant("client", Secret("secret"), "operator@example.com", Secret("password")))
    first = stage.fetch()
    others = [failure for failure in first.failures if "Private, and another user's" not in failure.reason]
    assert (others, first.notes, first.not_tried) == ([], (), 0)
    assert first.fetched == len(files(str(tmp_path))) == first.chosen - len(first.failures) > 40
    rows = stage.rows("SELECT path, bytes, sha256, job_id, document_name FROM aims360.document_archive")
    assert {Path(row[0]) for row in rows} == set(files(str(tmp_path)))
    for path, size, digest, job_id, name in rows:
        content = Path(path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
        assert "/aims360/AZ0" in path
        assert Path(path).parent.name == job_id
        assert name is None or path.endswith(name)
    stored = json.dumps([*map(str, stage.rows("SELECT * FROM aims360.document_archive")), str(first)])
    assert len(list(links(world))) > 60
    assert not any(link.rpartition("/")[2] in stored for link in links(world))
    stage.emulator.reset_log()
    again = stage.fetch(accounts=("AZ022",))
    assert (again.fetched, again.kept_before + len(again.failures)) == (0, again.chosen)
    asked = [request for request in stage.emulator.requests if "aimsdocument" in request.path]
    assert len(asked) == len(again.failures)
    assert list((tmp_path / ".parts").iterdir()) == []


def links(world: World) -> Iterator[str]:
    """Every link that the source shows to an output."""
    for job in world.jobs():
        yield from re.findall(r"https?://[^\"\\]+/aimsdocument/[^/\"\\]+/[^\"\\]+", json.dumps(world.payload(job)))


def test_a_file_that_went_or_changed_is_fetched_again(stage: Stage) -> None:
    """The record is believed only while a file of that size is there; what is there is not written over."""
    stage.document()
    stage.document()
    stage.sync()
    stage.fetch()
    gone, changed = files(stage.to)
    before = gone.read_bytes()
    gone.unlink()
    changed.write_bytes(b"mine")
    assert stage.fetch().fetched == 2
    assert gone.read_bytes() == before
    assert changed.read_bytes() == b"mine"
    [beside] = set(files(stage.to)) - {gone, changed}
    assert re.fullmatch(r"0-a report~[0-9a-f]{10}\.xlsx", beside.name)
    assert stage.fetch().kept_before == 2


def test_the_choice_is_by_job_kind_account_age_and_end(db: Connection, tmp_path: Path) -> None:
    """Only what fits, only of completed jobs, and only what can still be had."""
    world = World(seed=1, now=NOW, links=BASE)
    stage = Stage(db, world, str(tmp_path))
    old = world.add(
        createdDate=NOW - timedelta(days=28), purgeDateTime=NOW + timedelta(days=2), accountCode="B", publishLink=None
    )
    world.add(categoryName="Exports", accountCode="A", publishLink=f"{BASE}/x")
    world.add(jobStatus="Queued", publishLink=f"{BASE}/y")
    world.add(purgeDateTime=NOW - timedelta(hours=1))
    stage.sync()
    number = selection.source_id(db, "aims360")
    documents = stage.one("SELECT count(*) FROM aims360.job_documents WHERE job_id = %s", old["jobID"])

    def chosen(**wish: Any) -> set[str]:
        return {output.job_id for output in selection.choose(db, number, Wish(**wish), NOW)}

    assert len(chosen()) == 2
    assert chosen(jobs=(old["jobID"],)) == chosen(accounts=("B",)) == {old["jobID"]}
    assert chosen(until=NOW - timedelta(days=20)) == chosen(gone_within=timedelta(days=3)) == {old["jobID"]}
    assert chosen(since=NOW - timedelta(days=3)) == chosen(categories=("exports",)) == chosen() - {old["jobID"]}
    assert chosen(accounts=("nobody",)) == set()
    assert len(selection.choose(db, number, Wish(accounts=("B",)), NOW)) == documents


def test_the_publish_link_is_an_output_where_no_document_has_it(stage: Stage) -> None:
    """It has no name: its file gets that of the kind of job, and the ending of what comes."""
    stage.world.add(publishLink=f"{BASE}/p", publishLinkAccessScope="Public", response=None, subCategoryName="Aging")
    stage.sync()
    stage.fetch(answering(content_type="application/pdf; charset=binary"))
    assert [file.name for file in files(stage.to)] == ["publish-Aging.pdf"]
    assert stage.rows("SELECT position, document_name FROM aims360.document_archive") == [(None, None)]


@pytest.mark.parametrize("scope", ["Public", "PeopleInOrganization", "Private", "", "odd"])
def test_the_token_goes_with_what_is_not_public_and_to_the_service_alone(stage: Stage, scope: str) -> None:
    """Public is asked for without it, wherever it lies; all else with it, on the configured host, or not at all."""
    stage.document(scope)
    stage.document(scope, link=f"{FILES}/doc")
    stage.document(scope, link=f"{BASE}:8443/doc")
    stage.sync()
    asked: list[tuple[str, str | None]] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        asked.append((environ["HTTP_HOST"], environ.get("HTTP_AUTHORIZATION")))
        return answering()(environ, start)

    fetched = stage.fetch(app)
    if scope == "Public":
        hosts = {"api.aims360.example", "files.example", "api.aims360.example:8443"}
        assert set(asked) == {(host, None) for host in hosts}
        assert fetched.fetched == 3
    else:
        assert asked == [("api.aims360.example", f"Bearer {TOKEN}")]
        assert ["another host than the service" in failure.reason for failure in fetched.failures] == [True, True]


@pytest.mark.parametrize("scope", ["Public", "Private"])
def test_a_redirect_never_gets_the_token(stage: Stage, scope: str) -> None:
    """Storage is elsewhere: it is gone to over https, without the token, also on the same host."""
    stage.document(scope)
    stage.sync()
    asked: list[tuple[str, bool]] = []
    way = [f"{FILES}/signed?key=s3cret", "/other", f"{BASE}/back"]

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        asked.append((environ["HTTP_HOST"], "HTTP_AUTHORIZATION" in environ))
        if len(asked) <= len(way):
            return answering("302 Found", b"", Location=way[len(asked) - 1])(environ, start)
        return answering()(environ, start)

    assert stage.fetch(app).fetched == 1
    ours, other = "api.aims360.example", "files.example"
    assert asked == [(ours, scope == "Private"), (other, False), (other, False), (ours, False)]


@pytest.mark.parametrize(
    "link",
    [
        "file:///etc/passwd",
        "ftp://files.example/a",
        "http://files.example/a",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "https://[::ffff:10.0.0.1]/a",
        "https://[64:ff9b::a9fe:a9fe]/a",  # 169.254.169.254 by NAT64
        "https://[2002:7f00:1::]/a",  # 127.0.0.1 by 6to4
        "https://[::7f00:1]/a",
        "https://[fec0::1]/a",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/a",
        "https://localhost/a",
        "https://inside.example/a",
        "https://user:password@files.example/a",
        "https://api.aims360.example\\@files.example/a",
        "https://files.example:99999/a",
        "//files.example/a",
        "javascript:alert(1)",
        "https://[broken",
        "",
    ],
)
@pytest.mark.parametrize("is_redirect", [False, True])
def test_no_link_leads_inside_or_into_the_clear(stage: Stage, link: str, is_redirect: bool) -> None:
    """Links come from the source, and redirects from anyone: neither opens this machine, its network, or http."""
    if is_redirect and link in ("", "//files.example/a"):
        link = "http://files.example/again"
    stage.resolved["inside.example"] = ["93.184.216.34", "192.168.0.7"]
    stage.document(link=f"{FILES}/a" if is_redirect else link or " ")
    stage.sync()
    asked: list[str] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        asked.append(environ["HTTP_HOST"])
        return answering("302 Found", b"", Location=link)(environ, start)

    reason = only_failure(stage.fetch(app))
    assert re.search("not followed|nothing but https|only https|no address|can't be written", reason)
    assert asked == (["files.example"] if is_redirect else [])
    assert files(stage.to) == []


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "2002:5db8:d822::1"])
def test_links_to_the_public_internet_are_followed(stage: Stage, address: str) -> None:
    """By version 6 too, and through the gateways to version 4."""
    stage.resolved["files.example"] = [address]
    stage.document(link=f"{FILES}/a")
    stage.sync()
    assert stage.fetch(answering()).fetched == 1


def test_redirects_without_end_are_left(stage: Stage) -> None:
    """A few, and no more."""
    stage.document()
    stage.sync()
    assert "again and again" in only_failure(stage.fetch(answering("307 Temporary Redirect", b"", Location="/next")))


@pytest.mark.parametrize(
    ("scope", "answer", "said"),
    [
        ("Public", answering("404 Not Found", b""), "no longer there (HTTP 404)"),
        ("Public", answering("410 Gone", b""), "no longer there (HTTP 410)"),
        ("Public", answering("403 Forbidden", b""), "its link has expired"),
        ("Private", answering("403 Forbidden", b""), "another user's"),
        ("Private", answering("401 Unauthorized", b""), "AIMS360_TOKEN: the service refuses the token"),
        ("Public", answering(content_type="text/html; charset=utf-8"), "a web page came in its place"),
        ("Public", answering(content_type="application/json"), "JSON came in its place"),
        ("Public", answering(body=b""), "it is empty"),
        ("Public", answering(Content_Length="20001"), "20000 of 20001 bytes came"),
        ("Public", answering("503 Service Unavailable", b""), "last: HTTP 503"),
        ("Public", answering("429 Too Many Requests", b"", Retry_After="7200"), "a pause of 7200 s"),
        ("Public", answering("418 I'm a teapot", b""), "HTTP 418"),
    ],
)
def test_what_can_not_be_had_is_told_and_the_rest_goes_on(stage: Stage, scope: str, answer: App, said: str) -> None:
    """In words, without the link, and nothing is kept of it."""
    link = stage.document(scope)
    good = stage.document("Public", link=f"{FILES}/good")
    stage.sync()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        return (answering() if environ["HTTP_HOST"] == "files.example" else answer)(environ, start)

    fetched = stage.fetch(app)
    assert said in only_failure(fetched)
    assert fetched.fetched == len(files(stage.to)) == 1
    assert not any(secret.rpartition("/")[2] in f"{fetched}" for secret in (link, good) if "key" in secret)


def test_what_the_network_does_is_gone_through(db: Connection, world: World, tmp_path: Path) -> None:
    """Cuts, resets, waits and gateways' pages: asked again, from where it was, and whole at the end."""
    stage = Stage(db, world, str(tmp_path))
    job = world.add(publishLinkAccessScope="Public", responseType="File Attachment")
    stage.sync()
    wanted = selection.choose(db, 1, Wish(), world.now)
    stage.emulator.reset_log()
    stage.emulator.fail_next("503", "reset", "html", "cut", "429-seconds", "error-in-200", "504", "cut")
    fetched = stage.fetch(jobs=(job["jobID"],))
    assert (fetched.failures, fetched.fetched) == ((), len(wanted))
    assert any("range" in request.headers for request in stage.emulator.requests)
    emulator = Emulator(world, token=TOKEN)
    whole = {
        httpx.Client(transport=httpx.WSGITransport(app=emulator)).get(output.link.reveal()).content for output in wanted
    }
    assert {file.read_bytes() for file in files(str(tmp_path))} == whole


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "400 Bad Request", "401 Unauthorized", "500 Oops"])
@pytest.mark.parametrize("scope", ["Public", "Private"])
def test_what_a_server_repeats_of_secrets_is_not_told(stage: Stage, status: str, scope: str) -> None:
    """Token and link come back in a body, in headers, in a redirect: no reason, note or row has a piece of them."""
    stage.set(credentials=Secret(known_secrets.TOKEN))
    stage.document(scope, link=f"{BASE}/{known_secrets.ACCESS_KEY}")
    stage.sync(stage.emulator_that_admits(known_secrets.TOKEN))
    echo = f"{known_secrets.TOKEN} {known_secrets.ACCESS_KEY}"
    for answer in (
        answering(status, echo.encode(), "text/html", Location=f"http://x.example/{echo}", WWW_Authenticate=echo),
        answering(status, echo.encode(), f"text/html; {echo}", Location=f"{echo}://\\@", Retry_After=echo),
        answering(status, echo.encode(), "application/json", Content_Length=echo, Content_Range=echo, ETag=echo),
    ):
        fetched = stage.fetch(answer)
        assert known_secrets.leaks(str(fetched)) == set()
        assert (fetched.fetched, stage.rows("SELECT FROM aims360.document_archive")) == (0, [])


@pytest.mark.parametrize(
    ("goes_on", "asks"),
    [
        ("yes", ["bytes=10000-"]),
        ("without parts", ["bytes=10000-"]),
        ("another version", ["bytes=10000-"]),
        ("another place", ["bytes=10000-", None]),
        ("nothing behind it", ["bytes=10000-", None]),
        ("weak", [None]),
    ],
)
def test_a_cut_file_is_gone_on_with_only_where_it_is_the_same(stage: Stage, goes_on: str, asks: list[Any]) -> None:
    """A server may not know parts, have another version by now, or answer nonsense: then it begins anew."""
    stage.document()
    stage.sync()
    old, new = bytes(range(256)) * 80, bytes(range(255, -1, -1)) * 80
    content = new if goes_on == "another version" else old
    asked: list[str | None] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        asked.append(environ.get("HTTP_RANGE"))
        tag = 'W/"1"' if goes_on == "weak" else '"1"'
        if len(asked) == 1:
            return answering(body=old[:10_000], ETag=tag, Content_Length=str(len(old)))(environ, start)
        assert environ.get("HTTP_IF_RANGE") in (None, '"1"')
        if asked[-1] is None or goes_on in ("without parts", "another version"):
            return answering(body=content, ETag='"2"')(environ, start)
        if goes_on == "nothing behind it":
            return answering("416 Range Not Satisfiable", b"", Content_Range="bytes */9999")(environ, start)
        at = 5_000 if goes_on == "another place" else 10_000
        place = f"bytes {at}-{len(old) - 1}/{len(old)}"
        return answering("206 Partial Content", old[at:], ETag=tag, Content_Range=place)(environ, start)

    assert stage.fetch(app).fetched == 1
    assert asked == [None, *asks]
    [file] = files(stage.to)
    assert file.read_bytes() == content
    digest = hashlib.sha256(content).hexdigest()
    assert stage.rows("SELECT sha256, bytes FROM aims360.document_archive") == [(digest, len(content))]


def test_a_drip_is_not_waited_for_forever(stage: Stage) -> None:
    """A few bytes a minute never meet a time limit between two of them: there is one for how many come."""
    stage.document()
    stage.sync()

    class Drip:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                stage.world.advance(timedelta(seconds=50))
                yield b"."

    def app(_environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        start("200 OK", [("Content-Type", "application/octet-stream")])
        return Drip()

    assert "fewer than 64 kB came in 300 s" in only_failure(stage.fetch(app))


def test_wrong_credentials_are_not_tried_for_each_output(stage: Stage) -> None:
    """An account would be locked: what wants no token goes on."""
    for scope in ("Private", "Public") * 6:
        stage.document(scope)
    stage.sync()
    stage.set(credentials=PasswordGrant("client", Secret("wrong"), "operator@example.com", Secret("password")))
    stage.emulator.reset_log()
    fetched = stage.fetch()
    assert (fetched.fetched, len(fetched.failures)) == (6, 6)
    assert all("refused to sign in" in failure.reason for failure in fetched.failures)
    asked = [request for request in stage.emulator.requests if request.path.endswith("/token")]
    assert 1 <= len(asked) <= 4  # those that were under way at once


def test_large_ones_are_left_where_they_are(stage: Stage) -> None:
    """By what is announced, or by what comes; they are no failure."""
    stage.document()
    stage.sync()
    for app in (answering(Content_Length="20000"), answering()):
        fetched = stage.fetch(app, at_most=19_999)
        assert (fetched.too_large, fetched.fetched, fetched.failures, files(stage.to)) == (1, 0, (), [])
    assert stage.fetch(answering(), at_most=20_000).fetched == 1


def test_a_size_that_is_far_from_the_sources_is_noted(stage: Stage) -> None:
    """Kept all the same: the source rounds, and may be wrong."""
    stage.document(SizeInMB=3)
    stage.sync()
    fetched = stage.fetch(answering())
    assert fetched.fetched == 1
    assert ["20,000 bytes came, and the source speaks of 3 MB" in note for note in fetched.notes] == [True]


def test_a_disk_that_is_full_is_told_and_not_kept_full(stage: Stage) -> None:
    """What didn't find room goes: others, Postgres perhaps, need theirs."""
    stage.document()
    stage.sync()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, unlimited[1]))
    try:
        with pytest.raises(ArchiveError, match="make room there"):
            stage.fetch(answering())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list((Path(stage.to) / ".parts").iterdir()) == []
    assert stage.fetch(answering()).fetched == 1


def test_a_service_that_is_down_is_left_after_a_few(stage: Stage) -> None:
    """Thousands of outputs aren't each tried for minutes: the rest is counted, and left to the next call."""
    for _ in range(40):
        stage.document()
    stage.sync()
    fetched = stage.fetch(answering("503 Service Unavailable", b""))
    assert len(fetched.failures) + fetched.not_tried == 40
    assert fetched.not_tried > 20


def test_a_rerun_makes_another_file(stage: Stage) -> None:
    """Same job, same name, another link: the earlier output stays beside the later."""
    link = stage.document()
    stage.sync()
    stage.fetch(answering(body=b"first" * 4000))
    [job] = stage.world.jobs()
    response = stage.world.payload(job)["response"].replace(link, f"{link}-again")
    stage.world.change(job, response=response)
    stage.sync()
    assert stage.fetch(answering(body=b"later" * 4000)).fetched == 1
    assert {file.read_bytes()[:5] for file in files(stage.to)} == {b"first", b"later"}
    assert len(stage.rows("SELECT FROM aims360.document_archive")) == 2


def test_a_rerun_under_the_same_link_is_fetched_too(stage: Stage) -> None:
    """What was kept before the job completed last is another output; what is the same then is kept from there on."""
    stage.document()
    stage.sync()
    stage.fetch(answering(body=b"first" * 4000))
    for body in (b"later" * 4000, b"later" * 4000):
        stage.world.advance(timedelta(hours=1))
        [job] = stage.world.jobs()
        stage.world.change(job, completedDate=stage.world.now - timedelta(minutes=30))
        stage.sync()
        assert stage.fetch(answering(body=body)).fetched == 1
        assert stage.fetch(answering(body=body)).kept_before == 1
    assert {file.read_bytes()[:5] for file in files(stage.to)} == {b"first", b"later"}
    assert len(stage.rows("SELECT FROM aims360.document_archive")) == 2


def test_a_rerun_in_the_midst_of_a_download_is_fetched_again(stage: Stage) -> None:
    """What counts is when an output was asked for, not when the last of it came."""
    stage.document()
    stage.sync()
    [job] = stage.world.jobs()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        stage.world.advance(timedelta(minutes=1))
        stage.world.change(job, completedDate=stage.world.now)
        stage.world.advance(timedelta(minutes=1))
        return answering(body=b"first" * 4000)(environ, start)

    stage.fetch(app)
    stage.sync()
    assert stage.fetch(answering(body=b"later" * 4000)).fetched == 1


def test_what_was_purged_here_has_nothing_to_fetch(db: Connection, tmp_path: Path) -> None:
    """Under scrub the links are gone, under keep they lead nowhere."""
    for mode in ("scrub", "keep"):
        world = populated(20, seed=2, now=NOW, rate=0, links=BASE)
        stage = Stage(db, world, str(tmp_path))
        stage.set(name=mode, purge=mode)
        stage.sync()
        world.advance(timedelta(days=40))
        world.add(publishLink=None, response=None)
        stage.sync()
        assert stage.one("SELECT count(*) FROM bi.jobs WHERE is_purged AND source = %s", mode) > 10
        assert stage.fetch().chosen == 0


def test_links_in_the_folder_lead_nowhere(stage: Stage, tmp_path: Path) -> None:
    """A symbolic link in place of a folder, a file or the parts is not followed out of the folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    stage.document()
    stage.sync()
    stage.fetch()
    [file] = files(stage.to)
    for place, target in ((file, outside / "file"), (file.parent, outside), (file.parents[3], outside)):
        for path in sorted(place.rglob("*"), reverse=True) if place.is_dir() else ():
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir() if place.is_dir() else place.unlink()
        place.symlink_to(target)
        if place == file:
            assert stage.fetch().fetched == 1
        else:
            with pytest.raises(ArchiveError, match="a link stands where a folder belongs"):
                stage.fetch()
        place.unlink()
        assert list(outside.iterdir()) == []
        stage.fetch()


def test_a_role_with_the_rights_that_are_named_can_fetch(stage: Stage, url: str, db: Connection) -> None:
    """Those of docs/by-hand.md and no others; what that page asks of the archive has its answer."""
    stage.document()
    stage.sync()
    text = (ROOT / "docs" / "by-hand.md").read_text(encoding="utf-8")
    asks, grants = (found for found in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) if "document_archive" in found)
    with a_login(db, "fetcher") as name:
        for grant in grants.replace("TO fetcher", f'TO "{name}"').split(";")[:-1]:
            db.execute(grant.encode())
        with connected(as_role(url, name)) as session:
            theirs = Stage(session, stage.world, stage.to)
            assert theirs.fetch().fetched == 1
            theirs.db.execute("SELECT FROM aims360.document_archive")
    [job] = stage.world.jobs()
    asked = re.sub(r"'d29[^']*'", f"'{job['jobID']}'", asks).replace("'AZ022'", f"'{job['accountCode']}'")
    assert [row[0] for row in stage.rows(asked)] == ["a report.xlsx"]


def test_two_calls_at_once_do_no_harm(db: Connection, url: str, tmp_path: Path) -> None:
    """Each output is fetched by one of them, or by both to the same end; no file is torn."""
    world = populated(30, seed=3, now=NOW, rate=0, links=BASE)
    stage = Stage(db, world, str(tmp_path))
    stage.sync()
    results: list[Fetched] = []

    def call() -> None:
        with connected(url) as other:
            mine = Stage(other, world, str(tmp_path))
            mine.emulator = stage.emulator
            results.append(mine.fetch())

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    kept = stage.fetch()
    assert kept.fetched == 0
    assert kept.kept_before == len(files(str(tmp_path))) > 20
    for path, digest in stage.rows("SELECT path, sha256 FROM aims360.document_archive"):
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest


def test_a_part_has_one_writer(tmp_path: Path) -> None:
    """Whoever comes second is told so, and leaves it alone; the lock ends with the one who holds it."""
    with partial_files.opened(tmp_path, "k") as mine:
        assert mine is not None
        mine.restart('"1"')
        mine.write(b"abc")
        with partial_files.opened(tmp_path, "k") as other:
            assert other is None
    with partial_files.opened(tmp_path, "k") as later:
        assert later is not None
        assert (later.size, later.version, later.digest) == (3, '"1"', hashlib.sha256(b"abc").hexdigest())
        later.forget()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_what_is_long_gone_are_tidied(stage: Stage) -> None:
    """Nobody would go on with them; one that somebody holds stays."""
    folder = Path(stage.to) / ".parts"
    folder.mkdir(parents=True)
    for name in ("old", "held"):
        (folder / f"{name}.part").write_bytes(b"x")
        os.utime(folder / f"{name}.part", (0, 0))
    (folder / "new.part").write_bytes(b"x")
    with partial_files.opened(folder, "held"):
        os.utime(folder / "held.part", (0, 0))
        partial_files.forget_old(folder, 86_400.0)
    assert {path.name for path in folder.iterdir()} == {"held.part", "new.part"}


def test_an_address_of_fsspec_keeps_them_too(db: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a folder does, a store does: whole files, never over another, recorded by their address."""
    monkeypatch.chdir(tmp_path)
    world = populated(12, seed=3, now=NOW, rate=0, links=BASE)
    stage = Stage(db, world, f"memory://archive-{os.getpid()}")
    stage.sync()
    memory = fsspec.filesystem("memory")
    first = stage.fetch()
    assert first.fetched > 5
    for path, size, digest in stage.rows("SELECT path, bytes, sha256 FROM aims360.document_archive"):
        content = memory.cat_file(path.removeprefix("memory:/"))
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    assert stage.fetch().kept_before == first.fetched
    path = stage.one("SELECT path FROM aims360.document_archive ORDER BY path LIMIT 1").removeprefix("memory:/")
    memory.pipe_file(path, b"mine")
    assert stage.fetch().fetched == 1
    assert memory.cat_file(path) == b"mine"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("nothing://bucket", "nothing that fsspec can write to"),
        ("s3://bucket/a?x=1", "plain address"),
        ("s3://key:secret@bucket/a", "no user or password"),
        ("simplecache::s3://bucket", "plain address"),
        ("gs://bucket/a", 'pip install "aims360-etl[gcs]"'),
    ],
)
def test_an_address_that_can_not_be_is_said(to: str, said: str, tmp_path: Path) -> None:
    """Before anything is fetched, and without what may be a key in it."""
    with pytest.raises(ConfigError, match=f"--to: .*{re.escape(said)}") as told:
        stores.at(to, lambda: tmp_path)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_in_the_middle_loses_nothing(db: Connection, url: str, tmp_path: Path, how: signal.Signals) -> None:
    """A real process, killed while files come: the next one goes on with them, and all are whole and recorded."""
    world = World(seed=1, now=datetime.now(UTC))
    emulator = Emulator(world, token=TOKEN)
    with serve(emulator, drip=0.2) as service:
        world.links = service.url
        stage = Stage(db, world, str(tmp_path / "kept"))
        for _ in range(3):
            stage.document(SizeInMB=0.5)
        stage.sync()
        command = Command(service.url, url, tmp_path)
        emulator.fail_next("slow", "slow", "slow")
        with command.start("documents", "fetch", "--to", "kept") as process:
            growing = tmp_path / "kept" / ".parts"
            pause = threading.Event()
            while not any(part.stat().st_size for part in growing.glob("*.part")):
                assert process.poll() is None
                pause.wait(0.01)
            process.send_signal(how)
        assert stage.rows("SELECT FROM aims360.document_archive") == []
        assert list(growing.glob("*.part"))
        emulator.reset_log()
        code, output, errors = command.run("documents", "fetch", "--to", "kept", "--json")
        assert (code, errors, json.loads(output)["fetched"]) == (0, "", 3)
        assert any("range" in request.headers for request in emulator.requests)
        for path, digest in stage.rows("SELECT path, sha256 FROM aims360.document_archive"):
            content = Path(path).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (2**19, digest)
        # Killed after a file was put in place, and before its row was written: it is found, and recorded.
        db.execute("DELETE FROM aims360.document_archive")
        code, output, _ = command.run("documents", "fetch", "--to", "kept")
        assert (code, "3 of 3 outputs fetched" in output) == (0, True)
        assert len(files(str(tmp_path / "kept"))) == 3


def test_the_command_says_what_it_would_do_and_did(url: str, db: Connection, tmp_path: Path) -> None:
    """By account beforehand, in a line at the end, each failure with its reason and exit code 4; never a link."""
    world = populated(60, seed=5, now=datetime.now(UTC), rate=0)
    emulator = Emulator(world, token=TOKEN)
    with serve(emulator) as service:
        world.links = service.url
        stage = Stage(db, world, "")
        stage.document("Private", documentName="a\x1b[2Jb\r.csv")
        stage.sync()
        command = Command(service.url, url, tmp_path)
        code, output, errors = command.run("documents", "fetch", "--dry-run")
        assert (code, errors) == (0, "")
        assert "AZ031: " in output
        assert "would be fetched; 0 are recorded as kept before" in output
        code, output, _ = command.run("documents", "fetch", "--dry-run", "--json", "--before-purge", "3d")
        assert json.loads(output)["to_fetch"] == sum(share["outputs"] for share in json.loads(output)["accounts"])
        assert list(tmp_path.glob("kept*")) == []
        code, output, errors = command.run(
            "documents", "fetch", "--to", "kept", "--since", "20d", "--older-than", "1h", "--verbose"
        )
        assert code == 4
        assert "GET an output on 127.0.0.1: 200, 0." in errors
        assert re.fullmatch(r"aims360: \d+ of \d+ outputs fetched .* failed; in /\S+/kept\n", output)
        assert "it is Private, and another user's" in errors
        _, _, errors_of_odd = command.run("documents", "fetch", "--to", "kept", "--since", "1h")
        assert ("\x1b" in errors_of_odd, "a [2Jb .csv: " in errors_of_odd) == (False, True)
        assert not any(link.rpartition("/")[2] in output + errors for link in links(world))
        code, _, errors = command.run("documents", "fetch", "--to", "kept", "--account", "nobody")
        assert (code, "no completed job that fits" in errors) == (0, True)
        for words, said in ((("--dry-run", "--since", "soon"), "'soon' is no day"), ((), "--to is missing")):
            code, _, errors = command.run("documents", "fetch", *words)
            assert (code, said in errors) == (2, True)
        (tmp_path / "file").write_text("")
        code, _, errors = command.run("documents", "fetch", "--to", "file")
        assert (code, "name a folder that can be written" in errors) == (2, True)


def test_what_was_not_kept_for_the_same_reason_is_told_once() -> None:
    """A host that is down fails for hundreds of outputs: a line with how many, and the first of them."""
    many = [Failure(f"job-{number}", 0, "a.csv", "gone") for number in range(40)]
    few = [Failure("job-x", None, "", "denied"), Failure("job-y", 1, "b.csv", "denied")]
    assert list(reasons([*many, *few])) == [
        "40 outputs, the first of them of job job-0, document 0, a.csv: gone",
        "job job-x, publish link: denied",
        "job job-y, document 1, b.csv: denied",
    ]
