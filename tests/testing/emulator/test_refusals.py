"""What the service refuses of a query, and in which words."""

from urllib.parse import quote

import pytest

from etl.testing.emulator import Emulator, ServiceOptions, World
from tests.testing.emulator.asking import COLLECTION, JOB, ask, in_process, message_of, served

_TO_ALLOW = "To allow it, set the '{}' property on EnableQueryAttribute or QueryValidationSettings."
_TOO_MANY_NODES = (
    "The node count limit of '100' has been exceeded. To increase the limit, set the 'MaxNodeCount' property on "
    "EnableQueryAttribute or ODataValidationSettings."
)


def any_of(count: int) -> str:
    return " or ".join(f"jobID eq 'x{number}'" for number in range(count))


# -- nodes and bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "most"), [("5n-1", 20), ("6n-1", 16)])
def test_nodes_of_a_filter_are_counted(cost: str, most: int) -> None:
    """n terms joined by `or` are 5n-1 or 6n-1 nodes, parentheses are none, and 100 is the limit."""
    client = served(World(), node_cost=cost)
    assert ask(client, filter=f"(({any_of(most)}))").status_code == 200
    assert message_of(ask(client, filter=any_of(most + 1))) == _TOO_MANY_NODES


@pytest.mark.parametrize(
    ("text", "nodes"),
    [("ID eq 1", 4), ("ID eq 1 and jobID gt 'a'", 9), ("not (ID eq 1)", 5), ("(ID eq 1 or ID eq 2) and 3 gt ID", 14)],
)
def test_every_operator_is_a_node(text: str, nodes: int) -> None:
    """A comparison is four: itself, the property, the row it is of, and the constant."""
    assert ask(served(World(), max_nodes=nodes), filter=text).status_code == 200
    assert f"limit of '{nodes - 1}'" in message_of(ask(served(World(), max_nodes=nodes - 1), filter=text))


@pytest.mark.parametrize(("habit", "status", "said"), [("iis", 404, "404.15"), ("aspnet", 400, "maxQueryStringLength")])
def test_a_query_of_too_many_bytes_is_a_page_of_html(habit: str, status: int, said: str) -> None:
    """2,048 bytes as they are sent, undecoded, are taken, and not one more; whoever asks, and whatever path."""
    client = served(World(), long_query=habit)
    filled = f"$filter={quote('ID eq 1')}&x=".ljust(2048, "y")
    assert client.get(f"{COLLECTION}?{filled}").status_code == 200
    for path, headers in ((COLLECTION, {}), (COLLECTION, {"Authorization": ""}), (f"{JOB}/x", {})):
        answer = client.get(f"{path}?{filled}y", headers=headers)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        assert said in answer.text
    assert client.get(f"{COLLECTION}?$filter=ID%20eq%201&x={'%20' * 700}").status_code == status


def test_the_length_that_a_query_may_have_is_an_option() -> None:
    """Longer or shorter than the framework's."""
    assert ask(served(World(), max_query=10), filter="ID eq 1").status_code == 404
    assert ask(served(World(), max_query=9000), filter="jobID eq '" + "x" * 8000 + "'").status_code == 200


# -- what isn't allowed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "called"),
    [
        ("filter", "ID eq 1", "Filter"),
        ("orderby", "ID", "OrderBy"),
        ("skip", "1", "Skip"),
        ("count", "true", "Count"),
        ("select", "ID", "Select"),
    ],
)
def test_an_option_that_isnt_allowed_is_refused(name: str, value: str, called: str) -> None:
    """A 400 that names it as the framework does; others are allowed."""
    client = served(World(), refused=frozenset({name}))
    why = f"Query option '{called}' is not allowed. {_TO_ALLOW.format('AllowedQueryOptions')}"
    assert message_of(ask(client, **{name: value})) == why
    assert ask(client).status_code == ask(client, top="1").status_code == 200


def test_a_top_that_isnt_allowed_is_above_a_limit_of_none() -> None:
    """Any number but 0."""
    client = served(World(), refused=frozenset({"top"}))
    said = "The limit of '0' for Top query has been exceeded. The value from the incoming request is '1'."
    assert message_of(ask(client, top="1")) == said
    assert ask(client, top="0").status_code == 200


@pytest.mark.parametrize(
    ("refused", "text", "other"),
    [
        ("ID", "id eq 5", "jobID gt 'a'"),
        ("jobID", "ID gt 5 and (jobId eq 'x')", "ID gt 5"),
        ("modifiedDate", "not (modifiedDate ge 2019-06-07T06:09:22.737Z)", "createdDate ge 2019-06-07T06:09:22.737Z"),
        ("createdDate", "createdDate ge 2019-06-07T06:09:22.737Z", "modifiedDate ne null"),
    ],
)
def test_a_property_that_cant_be_filtered_on(refused: str, text: str, other: str) -> None:
    """A 400 that names it as the payload does, wherever in the filter it stands; it may still be ordered by."""
    client = served(World(), refused=frozenset({refused}))
    assert (
        message_of(ask(client, filter=text)) == f"The property '{refused}' cannot be used in the $filter query option."
    )
    assert ask(client, filter=other, orderby=refused).status_code == 200


@pytest.mark.parametrize(
    ("refused", "text", "called"),
    [
        ("or", "ID eq 1 and (ID eq 1 or ID eq 2)", "Or"),
        ("and", "not (ID eq 1 and ID eq 2)", "And"),
        ("not", "not (ID eq 1)", "Not"),
        ("gt", "ID gt 1", "GreaterThan"),
        ("ge", "ID ge 1", "GreaterThanOrEqual"),
    ],
)
def test_an_operator_that_isnt_allowed(refused: str, text: str, called: str) -> None:
    """A 400 that names it as the framework does; equality is still allowed."""
    client = served(World(), refused=frozenset({refused}))
    why = f"Logical operator '{called}' is not allowed. {_TO_ALLOW.format('AllowedLogicalOperators')}"
    assert message_of(ask(client, filter=text)) == why
    assert ask(client, filter="ID eq 1").status_code == 200


def test_a_property_that_cant_be_ordered_by() -> None:
    """A 400 that names it; it may still be filtered on."""
    client = served(World(), unsortable=frozenset({"modifiedDate"}))
    said = "The property 'modifiedDate' cannot be used in the $orderby query option."
    assert message_of(ask(client, orderby="ID,modifieddate desc")) == said
    assert ask(client, orderby="ID", filter="modifiedDate ne null").status_code == 200


# -- in other words ----------------------------------------------------------------------------------------------------

_REFUSING = {"refused": frozenset({"orderby", "top", "or", "jobid"}), "unsortable": frozenset({"modifieddate"})}
_REFUSED = [
    ({"orderby": "ID"}, "$orderby"),
    ({"top": "1"}, "$top"),
    ({"filter": "ID eq 1 or ID eq 2"}, "the operator 'or' in $filter"),
    ({"filter": "jobId eq 'x'"}, "the property 'jobID' in $filter"),
]


@pytest.mark.parametrize(("query", "name"), _REFUSED)
def test_a_refusal_may_name_what_it_refuses_in_other_words(query: dict[str, str], name: str) -> None:
    """None of the framework's phrases."""
    answer = ask(served(World(), refusal_words="named", **_REFUSING), **query)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "BadRequest", "message": f"This endpoint doesn't support {name}."}}


@pytest.mark.parametrize(("query", "name"), _REFUSED)
def test_a_refusal_may_name_nothing(query: dict[str, str], name: str) -> None:
    """A 400 that is the same for each, or a page of HTML as a firewall sends it."""
    answer = ask(served(World(), refusal_words="unnamed", **_REFUSING), **query)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "BadRequest", "message": "The request is invalid."}}
    answer = ask(served(World(), refusal_words="html-403", **_REFUSING), **query)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert name.split("'")[0] not in answer.text


@pytest.mark.parametrize("words", ["framework", "named", "unnamed", "html-403"])
def test_what_cant_be_read_is_a_bad_query_in_any_service(words: str) -> None:
    """The words are for what is refused. An unknown property or too many nodes are told by the framework."""
    client = served(World(), refusal_words=words, **_REFUSING)
    for text in ("nothing eq 1", "ID eq", any_of(21)):
        assert message_of(ask(client, filter=text)) == message_of(ask(served(World()), filter=text))


def test_a_property_that_cant_be_ordered_by_may_be_named_in_other_words() -> None:
    """Like one that can't be filtered on."""
    client = served(World(), refusal_words="named", unsortable=frozenset({"modifieddate"}))
    message = ask(client, orderby="modifiedDate desc").json()["error"]["message"]
    assert message == "This endpoint doesn't support the property 'modifiedDate' in $orderby."


# -- what is ignored, and how names are spelt --------------------------------------------------------------------------


def test_what_is_ignored_isnt_refused() -> None:
    """A service that doesn't look at an option has nothing against it."""
    emulator = Emulator(World(), ignore={"orderby"}, options=ServiceOptions(refused=frozenset({"orderby", "top"})))
    assert ask(in_process(emulator), orderby="ID").status_code == 200
    assert ask(in_process(emulator), orderby="ID", top="1").status_code == 400


@pytest.mark.parametrize(
    ("names", "known", "unknown"),
    [
        ("any-case", ["jobID", "jobId", "JOBID", "modifieddate"], ["job"]),
        ("payload", ["jobID", "modifiedDate"], ["jobId", "JobID", "modifieddate"]),
        ("jobId", ["jobId", "modifiedDate"], ["jobID", "jobid", "modifieddate"]),
    ],
)
def test_how_properties_are_spelt(names: str, known: list[str], unknown: list[str]) -> None:
    """In any case, as the payload does, or so but for the documented `jobId`; in filters, orders and selections."""
    world = World()
    world.add()
    client = served(world, property_names=names)
    for each in known:
        assert len(ask(client, filter=f"{each} ne null", orderby=each, select=each).json()["value"]) == 1
    for each in unknown:
        for query in ({"filter": f"{each} ne null"}, {"orderby": each}, {"select": each}):
            assert message_of(ask(client, **query)).startswith(f"Could not find a property named '{each}' on type")
