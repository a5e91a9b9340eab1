"""The habits of the service as values: their defaults, what there is to draw from, what is refused."""

import re
from dataclasses import fields, replace
from random import Random
from typing import Any

import httpx
import pytest

from etl.testing.emulator import (
    Drift,
    Emulator,
    Generation,
    ServiceOptions,
    Spoilt,
    World,
    list_option_choices,
    list_service_options,
    populated,
    read_service_options,
)
from etl.testing.emulator.value_forms import RowRenderer
from tests.support.command import Command
from tests.testing.emulator.asking import COLLECTION, GOOD_FORM, TOKEN, ask, in_process, message_of

_EACH = [(name, value) for name, values in list_option_choices().items() for value in values]


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
@pytest.mark.parametrize(("name", "value"), _EACH)
def test_a_service_of_every_habit_answers_a_plain_request(name: str, value: Any, generation: Generation) -> None:
    """Each value there is to choose from: a token, a page of all rows, and a second page of none."""
    world = World(generation=generation)
    world.ties(3, completedDate=None)
    client = in_process(Emulator(world, options=ServiceOptions(**{name: value})))
    assert client.post(TOKEN, data=GOOD_FORM).json()["access_token"]
    answers = [ask(client), ask(client, skip="3"), ask(client, {"OData-MaxVersion": "4.0"})]
    assert [len(answer.json()["value"]) for answer in answers] == [3, 0, 3]


def test_choices_are_every_option_with_a_closed_set_of_values() -> None:
    """The default comes first; options of names, numbers or rows aren't among them."""
    defaults = {each.name: each.default for each in fields(ServiceOptions)}
    assert all(values[0] == defaults[name] and len(values) > 1 for name, values in list_option_choices().items())
    assert {"refused", "max_nodes", "drift", "poisoned"}.isdisjoint(list_option_choices())
    assert {"no_date", "gzip", "pagesize", "ended_token"} <= list_option_choices().keys()


def test_options_can_be_drawn_by_chance() -> None:
    """Any combination of choices is a service, and the same draws are equal and hash alike."""

    def drawn(seed: int) -> ServiceOptions:
        rng = Random(seed)
        return ServiceOptions(**{name: rng.choice(values) for name, values in list_option_choices().items()})

    assert drawn(1) == drawn(1) != drawn(2)
    assert len({drawn(seed % 20) for seed in range(40)}) == 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"next_link": "sometimes"}, "no such next_link: 'sometimes'; there are 'standard', "),
        ({"no_date": "never"}, "no such no_date: 'never'"),
        ({"gzip": "yes"}, "no such gzip"),
        ({"refused": {"expand"}}, "no such refused: 'expand'"),
        ({"unsortable": {"top"}}, "no such unsortable: 'top'"),
        ({"ignored": {"pagesize"}}, "no such ignored: 'pagesize'"),
        ({"next_link_by": "token"}, "no such next_link_by: 'token'; there are 'skip', 'key-token', 'offset-token'"),
        ({"max_nodes": 0}, "max_nodes is 0, less than 1"),
        ({"most_in_flight": 0}, "most_in_flight is 0, less than 1"),
        ({"drift": [Drift("percent", "text")]}, "no such property: 'percent'"),
        ({"drift": [("percentCompleted", "round")]}, "no such form: 'round'"),
        ({"drift": [Drift("dates", "empty", 1.5)]}, "a share is between 0 and 1, not 1.5"),
        ({"spoilt": [("bell",)]}, "no such form: 'bell'"),
        ({"spoilt": [Spoilt("tab", name="@odata.etag")]}, "no such property: '@odata.etag'"),
        ({"spoilt": [Spoilt("tab", share=-1)]}, "a share is between 0 and 1, not -1"),
    ],
)
def test_what_there_isnt_is_no_option(given: dict[str, Any], said: str) -> None:
    """A ValueError names the field, the value, and what there is."""
    with pytest.raises(ValueError, match="^" + said.replace("(", r"\(")):
        ServiceOptions(**given)


def test_names_are_taken_as_queries_spell_them() -> None:
    """With the dollar sign or without, in any case; jobIDs of poisoned jobs too."""
    options = ServiceOptions(refused=frozenset({"$OrderBy", "jobID"}), poisoned=frozenset({"AB-1", 7}))
    assert options.refused == {"orderby", "jobid"}
    assert options.poisoned == {"ab-1", 7}
    assert replace(options) == options


def test_keywords_are_options_for_short() -> None:
    """`next_link` and `max_nodes` win over the options, which stay as they are otherwise."""
    emulator = Emulator(World(), next_link="never", max_nodes=4, options=ServiceOptions(next_link="always", gzip=True))
    assert emulator.options == ServiceOptions(next_link="never", max_nodes=4, gzip=True)
    with pytest.raises(ValueError, match="no such next_link"):
        Emulator(World(), next_link="sometimes")  # type: ignore[arg-type]


def test_a_service_can_change_its_mind() -> None:
    """Options that are set while it is asked hold from the next request on."""
    emulator = Emulator(World())
    client = in_process(emulator)
    assert ask(client, orderby="ID").status_code == 200
    emulator.options = replace(emulator.options, refused=frozenset({"orderby"}))
    assert message_of(ask(client, orderby="ID")).startswith("Query option 'OrderBy' is not allowed.")


def test_plain_rows_are_rendered_once() -> None:
    """By default a page is made of the table's own bytes, and no others."""
    world = populated(20, rate=0)
    render, [job, *_] = RowRenderer(ServiceOptions()).choose(world.table), world.jobs()
    assert render(job, ()) is render(job, ()) is world.table.rendered(job)
    assert in_process(Emulator(world)).get(COLLECTION).json()["value"][0] == job.payload()


# -- as text -----------------------------------------------------------------------------------------------------------


def test_options_can_be_written_as_text() -> None:
    """Choices, numbers and lists of names; booleans and None as JSON writes them."""
    texts = "gzip=true no_date=null most_in_flight=5 max_query=100 refused=top,orderby poisoned=7,ab-1".split()
    texts += "ignored=skip,$filter next_link_by=key-token default_order=arrival refusal_words=html-403".split()
    assert read_service_options([*texts, "no_date=0001-01-01T00:00:00Z"], node_cost="6n-1") == ServiceOptions(
        gzip=True,
        no_date="0001-01-01T00:00:00Z",
        most_in_flight=5,
        max_query=100,
        refused=frozenset({"top", "orderby"}),
        poisoned=frozenset({7, "ab-1"}),
        node_cost="6n-1",
        ignored=frozenset({"skip", "filter"}),
        next_link_by="key-token",
        default_order="arrival",
        refusal_words="html-403",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gzip", "'gzip' is not NAME=VALUE"),
        ("gzip_=true", "there is no 'gzip_'; names are bomb, "),
        ("drift=dates", "drift is PROPERTY:FORM or PROPERTY:FORM:SHARE, not 'dates'"),
        ("drift=dates:round", "no such form: 'round'"),
        ("spoilt=tab:many", "a share is a number from 0 to 1, not 'many'"),
        ("spoilt=tab", "spoilt is FORM:SHARE or FORM:SHARE:TIMES, not 'tab'"),
        ("gzip=yes", "gzip is one of false, true, not 'yes'"),
        ("max_nodes=-1", "max_nodes is a number, not '-1'"),
        ("refused=expand", "no such refused: 'expand'"),
        ("ignored=id", "no such ignored: 'id'"),
        ("default_order=random", "default_order is one of key, modifiedDate, arrival, not 'random'"),
    ],
)
def test_a_text_that_is_no_option(text: str, said: str) -> None:
    """A ValueError says what there is."""
    with pytest.raises(ValueError, match="^" + said):
        read_service_options([text])


def test_every_option_has_a_text() -> None:
    """A new field can be set from the command line, and is listed there."""
    with pytest.raises(ValueError, match="names are") as caught:
        read_service_options(["nothing=1"])
    names = str(caught.value).partition("names are ")[2].split(", ")
    listed = [line.partition("=")[0] for line in list_service_options().splitlines()]
    assert set(names) == set(listed) == {each.name for each in fields(ServiceOptions)}


def test_rows_of_other_forms_have_a_text() -> None:
    """Several of each."""
    texts = ["drift=percentCompleted:text:0.2,dates:empty", "spoilt=tab:0.1,nan:0.2:1"]
    assert read_service_options(texts) == ServiceOptions(
        drift=(Drift("percentCompleted", "text", 0.2), Drift("dates", "empty")),
        spoilt=(Spoilt("tab", share=0.1), Spoilt("nan", share=0.2, times=1)),
    )


def test_the_command_takes_options(command: Command) -> None:
    """`emulator --service` serves such a service; a wrong one and a doubled one are wrong usage."""
    words = ["--port", "0", "--jobs", "3", "--next-link", "on-last", "--service", "refused=top", "--fault", "overload"]
    words += ["--service", "ignored=orderby", "--service", "default_order=modifiedDate"]
    with command.start("emulator", *words) as serving:
        try:
            assert serving.stdout is not None
            url = re.findall(r"http://\S+?(?=;)", serving.stdout.readline())[0]
            headers = {"Authorization": "Bearer emulator"}
            assert "The limit of '0' for Top" in httpx.get(f"{url}{COLLECTION}?$top=1", headers=headers).text
            assert "@odata.nextLink" in httpx.get(f"{url}{COLLECTION}", headers=headers).json()
            rows = httpx.get(f"{url}{COLLECTION}?$orderby=modifiedDate%20desc", headers=headers).json()["value"]
            assert rows[0]["modifiedDate"] < rows[-1]["modifiedDate"]
        finally:
            serving.terminate()
    for text, said in (("gzip=yes", "gzip is one of false, true"), ("next_link=never", "option of its own")):
        code, _, errors = command.run("emulator", "--port", "0", "--service", text)
        assert code == 2
        assert said in " ".join(errors.split())
