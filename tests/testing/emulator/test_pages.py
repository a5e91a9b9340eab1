"""Pages in every habit: how long they are, where the next one is, how annotations are named, how bodies are packed."""

import gzip
import zlib
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from etl.testing.emulator import Emulator, ServiceOptions, World, serve
from tests.testing.emulator.asking import BEARER, COLLECTION, JOB, ask, in_process, message_of, served

_MIB = 1 << 20


@pytest.fixture
def many() -> World:
    """A world of 450 jobs."""
    world = World(generation="2019-08")
    world.ties(450)
    return world


# -- how long they are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("habit", "rows"),
    [("ignored", [100, 100, 100]), ("honoured", [7, 250, 450]), ("capped", [7, 200, 200])],
)
def test_the_vendors_own_page_size(many: World, habit: str, rows: list[int]) -> None:
    """`pagesize`, without a dollar sign, is ignored, honoured, or honoured up to 200; the nextLink goes on with it."""
    client = served(many, pagesize=habit)
    answers = [client.get(f"{COLLECTION}?pagesize={size}") for size in (7, 250, 1000)]
    assert [len(answer.json()["value"]) for answer in answers] == rows
    first = answers[1].json()
    assert unquote(first["@odata.nextLink"]).endswith(f"?pagesize=250&$skip={rows[1]}")
    assert len(client.get(first["@odata.nextLink"]).json()["value"]) == min(rows[1], 450 - rows[1])


def test_a_page_size_that_is_refused(many: World) -> None:
    """A 400 that names it, and what is no size is one wherever sizes are honoured."""
    assert message_of(served(many, pagesize="refused").get(f"{COLLECTION}?pagesize=250")).startswith(
        "The query parameter 'pagesize'"
    )
    for size in ("0", "-1", "x", ""):
        assert served(many, pagesize="honoured").get(f"{COLLECTION}?pagesize={size}").status_code == 400
        assert served(many).get(f"{COLLECTION}?pagesize={size}").status_code == 200


def test_a_preference_for_smaller_pages_may_be_ignored(many: World) -> None:
    """Then odata.maxpagesize changes nothing, and nothing is said to be applied; else it shrinks what was asked for."""
    prefer = {"Prefer": "odata.maxpagesize=30"}
    ignoring = ask(served(many, prefer="ignored"), prefer)
    assert len(ignoring.json()["value"]) == 100
    assert "Preference-Applied" not in ignoring.headers
    honoured = served(many, pagesize="honoured").get(f"{COLLECTION}?pagesize=50", headers=prefer)
    assert len(honoured.json()["value"]) == 30
    assert honoured.headers["Preference-Applied"] == "odata.maxpagesize=30"


# -- where the next one is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("habit", "links"),
    [
        ("standard", [True, True, False, False]),
        ("on-full", [True, True, True, False]),
        ("on-last", [True, True, True, False]),
        ("always", [True, True, True, True]),
        ("never", [False, False, False, False]),
    ],
)
def test_when_there_is_a_next_link(habit: str, links: list[bool]) -> None:
    """On the first and second page of three full ones, on the last of them, and on an empty one."""
    world = World()
    world.ties(300)
    client = served(world, next_link=habit)
    answers = [ask(client, skip=skip).json() for skip in ("0", "100", "200", "300")]
    assert ["@odata.nextLink" in answer for answer in answers] == links


@pytest.mark.parametrize(("habit", "link"), [("on-full", False), ("on-last", True), ("standard", False)])
def test_the_next_link_of_a_short_last_page(many: World, habit: str, link: bool) -> None:
    """Both were seen: one on a page of 50 with nothing behind it, and none."""
    assert ("@odata.nextLink" in ask(served(many, next_link=habit), skip="400").json()) == link


@pytest.mark.parametrize(
    ("habit", "link", "context"),
    [
        ("standard", "https://aims.test/api/jobsmanagement/odata/", "https://aims.test/api/jobsmanagement/odata/"),
        (
            "foreign",
            "https://elsewhere.example.net/jobsmanagement/odata/",
            "https://aims.test/api/jobsmanagement/odata/",
        ),
        ("no-prefix", "https://aims.test/api/odata/", "https://aims.test/api/odata/"),
        ("inner", "http://jobsmanagement.internal:8080/jobsmanagement/odata/", "http://jobsmanagement.internal:8080/"),
        ("inner-no-prefix", "http://jobsmanagement.internal:8080/odata/", "http://jobsmanagement.internal:8080/odata/"),
    ],
)
def test_where_a_next_link_leads(many: World, habit: str, link: str, context: str) -> None:
    """To the service, to another host, or to where the service believes itself to be behind a gateway."""
    page = served(many, next_link=habit).get(f"/api{COLLECTION}?$top=300").json()
    assert page["@odata.nextLink"].startswith(link)
    assert unquote(page["@odata.nextLink"]).endswith("v1.0/backgroundjob?$top=200&$skip=100")
    assert page["@odata.context"].startswith(context)


def test_an_older_framework_writes_a_negative_top(many: World) -> None:
    """After `$top=1`: what a whole page would leave of it. Whoever follows it is refused; other pages are as usual."""
    client = served(many, next_link="negative-top")
    page = ask(client, top="1").json()
    assert unquote(page["@odata.nextLink"]).endswith("?$top=-99&$skip=100")
    assert client.get(page["@odata.nextLink"]).status_code == 400
    assert unquote(ask(client, top="150").json()["@odata.nextLink"]).endswith("?$top=50&$skip=100")
    for options in ({"top": "0"}, {"top": "100"}, {"skip": "400"}):
        assert "@odata.nextLink" not in ask(client, **options).json()


# -- the version of OData ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "asked", "minimal"),
    [
        ("4.0", {}, False),
        ("4.01", {}, True),
        ("4.01", {"OData-MaxVersion": "4.01"}, True),
        ("4.01", {"OData-MaxVersion": "4.0"}, False),
        ("minimal-4.01", {"OData-MaxVersion": "4.0"}, True),
    ],
)
def test_how_annotations_are_named(many: World, version: str, asked: dict[str, str], minimal: bool) -> None:
    """With `odata.` or, from 4.01 on, without it, unless the client says that it knows 4.0 at most."""
    answer = ask(served(many, odata_version=version), asked, count="true", top="200")
    page, at = answer.json(), "@" if minimal else "@odata."
    assert page.keys() == {f"{at}context", f"{at}count", "value", f"{at}nextLink"}
    assert page["value"][0][f"{at}etag"].startswith('W/"')
    assert not any(name.startswith("@odata.") == minimal for name in page["value"][0] if name.startswith("@"))
    assert answer.headers["OData-Version"] == ("4.01" if minimal else "4.0")


# -- packed bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("gzip; q=0.00, br", False)],
)
def test_bodies_are_compressed_for_whoever_accepts_it(many: World, accepted: str, packed: bool) -> None:
    """The page, one job and errors; what is unpacked is what others get."""
    job = next(many.jobs()).job_id
    for path, plain in ((COLLECTION, served(many)), (f"{JOB}/{job}", served(many)), (f"{JOB}/x", served(many))):
        answer = served(many, gzip=True).get(path, headers={"Accept-Encoding": accepted})
        assert (answer.headers.get("Content-Encoding") == "gzip") == packed
        assert answer.json() == plain.get(path).json()


def test_a_part_of_a_document_isnt_compressed() -> None:
    """Its range counts plain bytes; the whole of it is."""
    world = World()
    job = world.add(publishLinkAccessScope="Public")
    client = served(world, gzip=True)
    part = client.get(job["publishLink"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers.get("Content-Encoding"), len(part.content)) == (206, None, 10)
    whole = client.get(job["publishLink"])
    assert (whole.headers["Content-Encoding"], whole.content[10:20]) == ("gzip", part.content)


def test_a_page_can_be_a_bomb(many: World) -> None:
    """Small on the wire, larger than asked for once it is unpacked, and valid; only where gzip is accepted."""
    emulator = Emulator(many, options=ServiceOptions(bomb=50 * _MIB))
    with serve(emulator) as server, httpx.Client(base_url=server.url, headers=BEARER) as client:
        with client.stream("GET", COLLECTION) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(raw) < 50 * _MIB / 500
        unpacked = gzip.decompress(raw)
        assert len(unpacked) > 50 * _MIB
        assert (unpacked[:10], unpacked[-4:]) == (b'{"value":[', b"  ]}")
        assert len(zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw)) == len(
            unpacked
        )  # one stream, as httpx reads
        assert len(client.get(COLLECTION, headers={"Accept-Encoding": "identity"}).json()["value"]) == 100
    assert [request.fault for request in emulator.requests] == ["bomb", ""]


def test_a_cut_body_may_be_a_compressed_one(many: World) -> None:
    """Half of what is on the wire, which no longer unpacks to JSON."""
    emulator = Emulator(many, options=ServiceOptions(gzip=True))
    emulator.fail_next("cut")
    answer: Any = None
    with pytest.raises((httpx.DecodingError, ValueError)):
        answer = ask(in_process(emulator)).json()
    assert answer is None
