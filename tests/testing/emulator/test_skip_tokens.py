"""`$skiptoken`: how it is written, what it leads to, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from etl.testing.emulator import START, Emulator, Generation, ServiceOptions, World, populated, serve
from tests.testing.emulator.asking import BEARER, COLLECTION, ask, in_process, message_of, read_pages, served, show

_ALL_BUT_EQ_AND_SKIP = frozenset("gt ge lt le ne and or not orderby top count select".split())
_NOT_SERVER_GENERATED = "Unable to parse the skiptoken value '{}'. Skiptoken value should always be server generated."


def a_world(generation: Generation = "2019-06") -> World:
    """A world of 83 jobs: a lived month, ties, and rows without a date or with one between two ticks."""
    world = populated(60, seed=3, generation=generation)
    world.ties(12)
    world.ties(8, modifiedDate=None)
    world.ties(3, modifiedDate="2026-02-20T10:00:00.1234567Z", jobStatusText="it's, well - 'so'")
    return world


def token_of(page: Any) -> str:
    """The `$skiptoken` of a page's nextLink."""
    link: str = unquote(page["@odata.nextLink"])
    return link.partition("$skiptoken=")[2]


# -- how it is written -------------------------------------------------------------------------------------------------


def test_a_token_holds_the_key_of_the_last_row() -> None:
    """The property and its literal, percent-encoded; the key is jobID where rows show no ID."""
    client = in_process(Emulator(a_world(), page_size=7, options=ServiceOptions(next_link_by="key-token")))
    page = ask(client).json()
    assert page["@odata.nextLink"].endswith(f"backgroundjob?$skiptoken=ID-{page['value'][-1]['ID']}")
    newer = a_world("2019-08")
    client = in_process(Emulator(newer, page_size=7, options=ServiceOptions(next_link_by="key-token")))
    page = ask(client).json()
    assert page["@odata.nextLink"].endswith(f"?$skiptoken=jobID-%27{page['value'][-1]['jobID']}%27")
    assert show([page]) == sorted(job.job_id for job in newer.jobs())[:7]


@pytest.mark.parametrize(
    ("orderby", "names"),
    [
        ("ID desc", ["ID"]),
        ("modifiedDate", ["modifiedDate", "ID"]),
        ("modifiedDate desc,ID desc", ["modifiedDate", "ID"]),
        ("jobStatus,percentCompleted desc", ["jobStatus", "percentCompleted", "ID"]),
    ],
)
def test_a_token_holds_the_values_that_rows_are_ordered_by(orderby: str, names: list[str]) -> None:
    """Then the key, unless that is among them."""
    client = in_process(Emulator(a_world(), page_size=7, options=ServiceOptions(next_link_by="key-token")))
    token = token_of(ask(client, orderby=orderby).json())
    assert [part.partition("-")[0] for part in token.split(",")] == names


def test_an_offset_token_is_a_number_of_rows() -> None:
    """A `$skip` of the query is counted, and not repeated."""
    client = in_process(Emulator(a_world(), page_size=7, options=ServiceOptions(next_link_by="offset-token")))
    assert unquote(ask(client).json()["@odata.nextLink"]).endswith("backgroundjob?$skiptoken=7")
    page = client.get(f"{COLLECTION}?$skip=5&$skiptoken=7").json()
    assert unquote(page["@odata.nextLink"]).endswith("backgroundjob?$skiptoken=19")
    assert show([page], "ID")[0] == 50_001 + 12


@pytest.mark.parametrize("by", ["key-token", "offset-token"])
def test_a_link_repeats_the_rest_of_the_query(by: Any) -> None:
    """Filter, page size, count and selection as they were asked; of `$top` what is left; no `$skip`."""
    options = ServiceOptions(next_link_by=by, pagesize="honoured")
    asked = f"$filter={quote('ID ge 50010')}&pagesize=5&$count=true&$select=jobStatus&$top=12&$skip=3"
    pages = read_pages(in_process(Emulator(a_world(), options=options)), asked)
    links = [unquote(page["@odata.nextLink"]).partition("?")[2] for page in pages[:-1]]
    same = "$filter=ID ge 50010&pagesize=5&$count=true&$select=jobStatus"
    assert [link.partition("&$skiptoken=")[0] for link in links] == [f"{same}&$top=7", f"{same}&$top=2"]
    assert [(len(page["value"]), page["@odata.count"]) for page in pages] == [(5, 74), (5, 74), (2, 74)]
    assert token_of(pages[1]) == ("ID-50022" if by == "key-token" else "13")


def test_a_page_without_rows_has_no_other_position() -> None:
    """A service that always shows a nextLink repeats the token that it was asked with, if any."""
    client = served(World(), next_link_by="key-token", next_link="always")
    assert ask(client).json()["@odata.nextLink"].endswith("v1.0/backgroundjob")
    assert token_of(ask(client, skiptoken="ID-5").json()) == "ID-5"


# -- what it leads to --------------------------------------------------------------------------------------------------

_ORDERS = (
    *("", "ID desc", "jobID", "modifiedDate", "modifiedDate desc", "modifiedDate desc,ID desc", "jobStatusText"),
    *("percentCompleted desc,jobStatus", "rowversion", "completedDate,categoryName desc", "clientRequestId desc"),
)


@pytest.mark.parametrize("comparison", ["datetime", "datetime2"])
@pytest.mark.parametrize("default", ["key", "modifiedDate", "arrival"])
@pytest.mark.parametrize("by", ["skip", "key-token", "offset-token"])
def test_links_lead_to_every_row_once(by: Any, default: Any, comparison: Any) -> None:
    """In the order of one page that holds them all; with ties, nulls and quotes, filtered or not."""
    world = a_world()
    options = ServiceOptions(next_link_by=by, default_order=default)
    paged = in_process(Emulator(world, page_size=9, comparison=comparison, options=options))
    whole = in_process(Emulator(world, page_size=1000, comparison=comparison, options=options))
    for order in _ORDERS:
        for condition in ("", "$filter=" + quote("ID ge 50010 and not (ID eq 50040)")):
            query = "&".join(part for part in (condition, f"$orderby={quote(order)}" if order else "") if part)
            rows = show(read_pages(paged, query))
            assert rows == show(read_pages(whole, query)), query
            assert len(set(rows)) == len(rows) == (73 if condition else 83)


@pytest.mark.parametrize("default", ["key", "modifiedDate", "arrival"])
def test_links_lead_to_every_row_that_shows_no_id(default: Any) -> None:
    """The payload without ID has tokens of jobID."""
    emulator = Emulator(a_world("2019-08"), page_size=9)
    for by in ("skip", "key-token", "offset-token"):
        emulator.options = ServiceOptions(next_link_by=by, default_order=default)
        for query in ("", "$orderby=modifiedDate%20desc"):
            assert len(set(show(read_pages(in_process(emulator), query)))) == 83


def test_rows_come_and_go_between_pages() -> None:
    """A key stays where it is when rows before it go, even its own; a number of rows doesn't."""

    def delete_a_row_that_was_read(world: World) -> None:
        world.delete(list(world.jobs())[4])

    def read(by: Any) -> list[int]:
        world = World()
        world.ties(30)
        options = ServiceOptions(next_link_by=by)
        emulator = Emulator(world, page_size=5, between_pages=delete_a_row_that_was_read, options=options)
        return [number - 50_000 for number in show(read_pages(in_process(emulator)), "ID")]

    assert read("key-token") == list(range(1, 31))
    assert read("offset-token") == read("skip") == [number for number in range(1, 31) if number % 6]


def test_tokens_are_served_on_a_socket() -> None:
    """As in-process."""
    with (
        serve(Emulator(a_world(), options=ServiceOptions(next_link_by="key-token"))) as server,
        httpx.Client(base_url=server.url, headers={**BEARER, "Prefer": "odata.maxpagesize=20"}) as client,
    ):
        assert [len(page["value"]) for page in read_pages(client)] == [20, 20, 20, 20, 3]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["key-token", "offset-token"])
def test_a_nextlink_alone_pages_where_all_else_is_refused(by: Any) -> None:
    """A service may refuse every option and page only by its own links, which name an inner host."""
    options = ServiceOptions(
        refused=_ALL_BUT_EQ_AND_SKIP | {"skip"}, next_link_by=by, next_link="inner-no-prefix", default_order="arrival"
    )
    world = a_world()
    client = in_process(Emulator(world, page_size=20, options=options))
    pages = read_pages(client)
    assert len(set(show(pages))) == len(world) == 83
    assert pages[0]["@odata.nextLink"].startswith("http://jobsmanagement.internal:8080/odata/v1.0/backgroundjob?")
    job = next(world.jobs()).job_id
    assert show([ask(client, filter=f"jobId eq '{job}'").json()]) == [job]
    assert message_of(ask(client, skip="20")).startswith("Query option 'Skip' is not allowed.")


def test_all_but_a_single_key_and_skip_can_be_refused() -> None:
    """Each other option and operator is a 400."""
    world = a_world()
    client = in_process(Emulator(world, page_size=20, options=ServiceOptions(refused=_ALL_BUT_EQ_AND_SKIP)))
    job = next(world.jobs()).job_id
    assert show([ask(client, filter=f"jobId eq '{job}'").json()]) == [job]
    assert len(set(show(read_pages(client)))) == 83
    filters = [f"ID {operator} 5" for operator in ("gt", "ge", "lt", "le", "ne")]
    filters += ["ID eq 5 or ID eq 6", "ID eq 5 and jobID eq 'x'", "not (ID eq 5)"]
    others = [{"orderby": "ID"}, {"top": "1"}, {"count": "true"}, {"select": "ID"}]
    for query in [*({"filter": text} for text in filters), *others]:
        assert message_of(ask(client, **query))


def test_a_token_allows_no_other_option() -> None:
    """`$top`, `$orderby` and `$count` are refused beside it as they are alone; without it `$skip` is too."""
    client = served(a_world(), next_link_by="key-token", refused=frozenset({"skip", "top", "orderby", "count"}))
    token = "ID-50010"
    assert len(ask(client, skiptoken=token).json()["value"]) == 73
    for other in ({"top": "5"}, {"orderby": "ID"}, {"count": "true"}, {"skip": "5"}):
        assert ask(client, skiptoken=token, **other).status_code == 400


@pytest.mark.parametrize(
    ("token", "by"),
    [
        *((token, "offset-token") for token in ("", "x", "-1", "1.5", "ID-50010", "9" * 10)),
        *((token, "key-token") for token in ("", "x", "ID", "ID-", "ID-'5'", "ID-x", "ID-5,", "id-5", "50010")),
        *((token, "key-token") for token in ("jobID-'x'", "ID-5,ID-6", "modifiedDate-null,ID-5", "ID-'", "ID-(5")),
    ],
)
def test_a_token_that_isnt_the_services_own(token: str, by: str) -> None:
    """A 400 in the framework's words."""
    answer = ask(served(a_world(), next_link_by=by), skiptoken=token)
    assert message_of(answer) == _NOT_SERVER_GENERATED.format(token)


def test_a_service_without_tokens_refuses_them() -> None:
    """A 400 that names the option as the framework does."""
    said = message_of(ask(served(a_world()), skiptoken="ID-50010"))
    assert said.startswith("Query option 'SkipToken' is not allowed. To allow it, set the 'AllowedQueryOptions'")


# -- options that change meanwhile -------------------------------------------------------------------------------------


def test_a_token_outlives_a_change_of_options() -> None:
    """It says where a page begins, whatever the service refuses or how its links look by then."""
    emulator = Emulator(a_world(), page_size=30, options=ServiceOptions(next_link_by="key-token"))
    client = in_process(emulator)
    first = ask(client).json()
    emulator.options = ServiceOptions(
        next_link_by="key-token", refused=_ALL_BUT_EQ_AND_SKIP | {"skip"}, next_link="inner", refusal_words="html-403"
    )
    rest = read_pages(client, first["@odata.nextLink"].partition("?")[2])
    assert show([first, *rest], "ID") == [job.number for job in emulator.world.jobs()]


def test_a_token_of_another_form_is_refused() -> None:
    """A service that begins to page in another way, or in another order, can't read its older tokens: a 400."""
    emulator = Emulator(a_world(), page_size=30, options=ServiceOptions(next_link_by="key-token"))
    client = in_process(emulator)
    query = ask(client).json()["@odata.nextLink"].partition("?")[2]
    for options in (
        ServiceOptions(),
        ServiceOptions(next_link_by="offset-token"),
        ServiceOptions(next_link_by="key-token", default_order="modifiedDate"),
    ):
        emulator.options = options
        assert message_of(client.get(f"{COLLECTION}?{query}"))


def _between_pages(emulator: Emulator, change: Callable[[], None]) -> None:
    emulator.between_pages = lambda _world: change()


def _by_the_clock(emulator: Emulator, change: Callable[[], None]) -> None:
    calls: list[int] = []

    def tell() -> Any:
        calls.append(1)
        if len(calls) > 1:
            change()
        return START + timedelta(seconds=len(calls))

    emulator.clock = tell


@pytest.mark.parametrize("arrange", [_between_pages, _by_the_clock])
def test_a_refusal_can_begin_and_end_while_a_service_is_read(arrange: Any) -> None:
    """A callable that runs before each request decides what this request is refused."""
    refused = iter([{"skip"}, set(), {"orderby"}])
    emulator = Emulator(World())

    def change() -> None:
        emulator.options = replace(emulator.options, refused=frozenset(next(refused)))

    arrange(emulator, change)
    client = in_process(emulator)
    assert [ask(client, skip="1").status_code for _ in range(4)] == [200, 400, 200, 200]
    assert emulator.options.refused == {"orderby"}
