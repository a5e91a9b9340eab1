"""Pages as they come: rows that are no JSON are cut out of them, and nothing is taken for a row that may be none."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.client import payload
from etl.errors import BadAnswer

GOOD = b'{"ID":1,"jobID":"a","response":"[{\\"jobID\\":\\"z\\"}]","more":[{"jobID":"y"},[{}]]}'
# A row that is no JSON, each for another reason.
SPOILT = [
    b'{"ID":2,"t":"a\tb","jobID":"b"}',
    b'{"ID":2,"t":"a\nb","jobID":"b"}',
    b'{"ID":2,"t":"a\x00b","jobID":"b"}',
    rb'{"ID":2,"t":"it\'s","jobID":"b"}',
    rb'{"ID":2,"t":"\x41","jobID":"b"}',
    rb'{"ID":2,"t":"\u12","jobID":"b"}',
    b'{"ID":2,"t":NaN,"jobID":"b"}',
    b'{"ID":2,"t":-Infinity,"jobID":"b"}',
    b'{"ID":2,"t":0100,"jobID":"b"}',
    b'{"ID":2,"t":.5,"jobID":"b"}',
    b'{"ID":2,"t":True,"jobID":"b"}',
    b'{"ID":2,"t":1,,"jobID":"b"}',
    b'{"ID":2,"t":,"jobID":"b"}',
    b'{"ID":2,"t":[1,],"jobID":"b",}',
    b' {\n"ID" : 2 , "t" : {"x" : [NaN, {"y" : "}],["}]} , "jobID" : "b" } ',
]
# What a quote that isn't escaped makes of a row.
UNESCAPED = [
    b'{"ID":2,"t":"5" wide","jobID":"b"}',
    b'{"ID":2,"t":"say "hi"","jobID":"b"}',
    b'{"ID":2,"t":"5", 6" and 7"","jobID":"b"}',
    b'{"ID":2,"t":"a" b }, {"ID":3,"t":"b","jobID":"b"}',
    b'{"ID":2,"t":"a"b}, {"jobID":"forged","x":" b","jobID":"b"}',
    b'{"ID":2,"t":"{"a": NaN}","jobID":"b"}',
]


def a_page(*rows: bytes, count: bytes = b"") -> bytes:
    """An answer of the collection with these rows."""
    return b'{"@odata.context":"c",' + count + b'"value":[' + b",".join(rows) + b'],"@odata.nextLink":"n"}'


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_is_no_json_is_cut_out_of_its_page(spoilt: bytes, place: int) -> None:
    """Wherever it stands: the others are as they were, and it comes on as it is."""
    rows = [GOOD, GOOD]
    rows.insert(place, spoilt)
    found = payload.parse_page(a_page(*rows, count=b'"@odata.count":7,'))
    assert (found.rows, found.total, found.replaced_characters) == (tuple(rows), 7, 0)


def test_several_rows_that_are_no_json_are_cut_out_too() -> None:
    """Up to all of them: their form is what makes sure that they are rows."""
    assert payload.parse_page(a_page(*SPOILT)).rows == tuple(SPOILT)
    assert payload.parse_page(a_page(GOOD, *SPOILT, GOOD)).rows == (GOOD, *SPOILT, GOOD)
    deep = b'{"ID":3,"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    assert payload.parse_page(a_page(deep, SPOILT[0])).rows == (deep, SPOILT[0])


@pytest.mark.parametrize("spoilt", UNESCAPED)
def test_a_page_that_cannot_be_cut_for_certain_is_bad(spoilt: bytes) -> None:
    """A quote that isn't escaped makes brackets of text and text of brackets: it might forge a row, or hide one."""
    for rows in ([spoilt], [GOOD, spoilt], [spoilt, GOOD], [GOOD, spoilt, SPOILT[0], GOOD]):
        with pytest.raises(BadAnswer):
            payload.parse_page(a_page(*rows))


@pytest.mark.parametrize(
    "row", [b"null", b"5", b"NaN", b"[]", b"", b'"text"', b'{"a"', b'{"a":1}{"b":2}', b'{"a":1 2}']
)
def test_beside_a_row_that_is_no_json_all_others_must_be_objects(row: bytes) -> None:
    """Else nothing says that the cuts are right."""
    with pytest.raises(BadAnswer):
        payload.parse_page(a_page(GOOD, SPOILT[0], row))


@pytest.mark.parametrize("body", [a_page(GOOD, GOOD), a_page(GOOD, *SPOILT[::4], GOOD)])
def test_an_answer_that_was_cut_short_is_bad_wherever_it_ends(body: bytes) -> None:
    """It is asked for again, whatever of it could be read."""
    for end in range(len(body)):
        with pytest.raises(BadAnswer):
            payload.parse_page(body[:end])


def test_what_is_wrong_around_the_rows_makes_the_answer_bad() -> None:
    """Only a row is its own fault."""
    for body in (
        a_page(SPOILT[0]).replace(b'"n"', b"NaN"),
        a_page(SPOILT[0]).replace(b'"value"', b'"values"'),
        a_page(SPOILT[0]) + b"{}",
        b"[" + a_page(SPOILT[0]) + b"]",
        a_page(SPOILT[0]).replace(b'"@odata.nextLink":"n"', b'"value":[1]'),
        a_page(SPOILT[0]).replace(b'"@odata.nextLink":"n"', b'"error":{"message":"no"}'),
    ):
        with pytest.raises(BadAnswer):
            payload.parse_page(body)


def test_lone_surrogates_beside_a_row_that_is_no_json_are_replaced() -> None:
    """Both are mended in one page, and counted."""
    lone = rb'{"ID":3,"t":"\ud800"}'
    found = payload.parse_page(a_page(SPOILT[0], lone))
    assert (found.rows, found.replaced_characters) == ((SPOILT[0], lone.replace(rb"\ud800", rb"\ufffd")), 1)


@pytest.mark.parametrize(
    ("count", "total"),
    [
        (b'"@odata.count":7,', 7),
        (b'"@count":7,', 7),
        (b'"@odata.count":"7",', 7),
        (b'"@count":"seven",', None),
        (b'"@odata.count":null,"@count":7,', 7),
        (b'"@odata.count":true,', None),
        (b'"@odata.count":7.5,', None),
        (b"", None),
    ],
)
def test_the_count_is_read_under_either_name(count: bytes, total: int | None) -> None:
    """As OData 4.0 and 4.01 call it; as text where numbers of eight bytes are written so."""
    assert payload.parse_page(a_page(GOOD, count=count)).total == total


names = st.sampled_from(["jobID", "ID", "t", "u"])
scalars = st.one_of(st.none(), st.integers(), st.text(max_size=8), st.sampled_from(['"', "\\", "},{", '"},{"', "[{"]))
members = st.dictionaries(names, st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(names, scalars)))


@st.composite
def spoilt_rows(draw: Any) -> tuple[bytes, dict[str, Any]]:
    """A row one of whose values is spoilt, and what its other members hold."""
    row = draw(members)
    spoilt = draw(st.sampled_from([b"NaN", b'"a\tb"', rb'"\z"', b"00", b"[,]", b""]))
    raw = json.dumps({**row, "spoilt": "@@"}).encode().replace(b'"@@"', spoilt)
    return raw, row


@given(st.lists(st.one_of(members.map(lambda row: (json.dumps(row).encode(), None)), spoilt_rows()), min_size=1))
def test_the_rows_of_a_page_are_those_that_it_was_made_of(rows: Sequence[tuple[bytes, Any]]) -> None:
    """Whatever their texts hold; and key and dates are found in those that are no JSON."""
    assert payload.parse_page(a_page(*(raw for raw, _ in rows))).rows == tuple(raw for raw, _ in rows)
    for raw, row in rows:
        if row is not None:
            plain = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
            assert payload.read_loosely(raw, ("jobID", "ID", "t", "u")) == plain


@given(st.lists(spoilt_rows(), min_size=1, max_size=4), st.data())
def test_no_part_of_a_page_is_taken_for_all_of_it(rows: Sequence[tuple[bytes, Any]], data: st.DataObject) -> None:
    """Cut short anywhere."""
    body = a_page(*(raw for raw, _ in rows))
    with pytest.raises(BadAnswer):
        payload.parse_page(body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (b'{"jobID":"b","ID":2,"t":NaN}', {"jobID": "b", "ID": 2}),
        (b'{"t":NaN,"response":"{\\"jobID\\":\\"z\\"}","more":{"jobID":"y","ID":9},"ID":2}', {"ID": 2}),
        (b'{"t":NaN,"jobID":"b","jobID":"c","ID":2}', {"ID": 2}),
        (b'{"t":NaN,"jobID":{"jobID":"y"},"ID":[2]}', {}),
        (b'{"t":NaN,"jobID":"a\tb","ID":002}', {}),
        (b'{"t":NaN,"jobID":null}', {"jobID": None}),
        (b'{"t":"5" wide","jobID":"b","ID":2}', {}),
        (b"", {}),
        (b"[]", {}),
        (b"NaN", {}),
    ],
)
def test_of_a_row_that_is_no_json_only_its_own_members_are_found(row: bytes, found: dict[str, Any]) -> None:
    """Never what stands in a text, a list or an object inside of it, and nothing that is there twice."""
    assert payload.read_loosely(row, ("jobID", "ID")) == found


@pytest.mark.parametrize(
    "said",
    [
        "No access to D:\\outputs\\aB3dE5gH7jK9mN1pQ3rS5tU7\\x.xlsx now",
        "Key 'aB3dE5gH7jK9mN1pQ3rS5tU7' has expired",
        'sent {"key":"aB3dE5gH7jK9mN1pQ3rS5tU7"}',
        "sig: aB3dE5gH7jK9mN1pQ3rS5tU7",
    ],
)
def test_a_key_without_an_address_is_withheld(said: str) -> None:
    """In a path of Windows, in quotes, in JSON, after its name."""
    assert "aB3dE5gH7jK9mN1pQ3rS5tU7" not in payload.harmless(said)


def test_an_address_of_a_person_is_withheld_as_links_write_it() -> None:
    """With its @ percent-encoded."""
    assert "operator" not in payload.harmless("user operator%40example.com isn't allowed")
