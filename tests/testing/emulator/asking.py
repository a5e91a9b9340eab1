"""How the tests of the emulator ask it: in-process, over HTTP as httpx speaks it."""

from typing import Any
from urllib.parse import quote

import httpx

from etl.testing.emulator import Emulator, ServiceOptions, World

COLLECTION = "/jobsmanagement/odata/v1.0/backgroundjob"
JOB = "/jobsmanagement/v1.0/backgroundjob"
TOKEN = "/authentication/v1/authentication/token"
BEARER = {"Authorization": "Bearer static-token"}
GOOD_FORM = {
    "client_id": "client",
    "client_secret": "secret",
    "username": "operator@example.com",
    "password": "password",
    "grant_type": "password",
}


def in_process(emulator: Emulator, **headers: str) -> httpx.Client:
    """A client of it that has a token, or these headers instead."""
    transport = httpx.WSGITransport(app=emulator)
    return httpx.Client(transport=transport, base_url="https://aims.test", headers=headers or BEARER)


def served(world: World, **options: Any) -> httpx.Client:
    """A client of a service with these habits."""
    return in_process(Emulator(world, options=ServiceOptions(**options)))


def ask(client: httpx.Client, headers: dict[str, str] | None = None, /, **options: str) -> httpx.Response:
    """The collection, with these query options, without their dollar signs."""
    query = "&".join(f"${name}={quote(value)}" for name, value in options.items())
    return client.get(f"{COLLECTION}?{query}" if query else COLLECTION, headers=headers)


def shown_by(emulator: Emulator, prop: str = "ID", **options: str) -> list[Any]:
    """A property of the rows of a page."""
    answer = ask(in_process(emulator), None, **options)
    assert answer.status_code == 200, answer.text
    return [row[prop] for row in answer.json()["value"]]


def ids(world: World, text: str, **options: Any) -> list[int]:
    """The IDs a filter leaves, counted from 1."""
    found = shown_by(Emulator(world, page_size=1000, **options), filter=text, orderby="ID")
    return [number - 50_000 for number in found]


def message_of(answer: httpx.Response) -> str:
    """What an error of the service says, after the words that all of its kind begin with."""
    assert answer.status_code == 400, answer.text
    message: str = answer.json()["error"]["message"]
    return message.removeprefix("The query specified in the URI is not valid. ")


def read_pages(client: httpx.Client, query: str = "", at_most: int = 100) -> list[Any]:
    """Return the page that a raw query asks for and all that its nextLinks lead to, by the query of each link alone."""
    pages = []
    for _ in range(at_most):
        answer = client.get(f"{COLLECTION}?{query}")
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        if "@odata.nextLink" not in pages[-1]:
            return pages
        query = pages[-1]["@odata.nextLink"].partition("?")[2]
    raise AssertionError(f"no end after {at_most} pages")


def show(pages: list[Any], prop: str = "jobID") -> list[Any]:
    """Return a property of all rows of some pages."""
    return [row[prop] for page in pages for row in page["value"]]
