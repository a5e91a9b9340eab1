"""`doctor --report`: shapes of what was asked and answered, and none of the secrets that stand in every place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from etl.client.answers import Answer
from etl.client.client import Api
from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import Source
from etl.models import Exchange
from etl.pipeline.doctor.report import Report, describe_answer
from etl.pipeline.doctor.scrubbing import (
    shape_address,
    shape_code,
    shape_headers,
    shape_link,
    shape_message,
    shape_query,
    show_name,
)
from etl.pipeline.doctor.service import examine_service
from etl.pipeline.doctor.shapes import Shape, spell
from etl.testing.emulator import Emulator, World, populated
from etl.testing.emulator.odata_query import BadQuery
from etl.testing.emulator.refusals import answer_bad_query, check_options
from etl.testing.emulator.service_options import OPTIONS, ServiceOptions
from tests.support.command import Command
from tests.support.known_secrets import CLIENT_SECRET, ECHOES, GRANT, LINK, PASSWORD, PERSON, TOKEN, leaks
from tests.support.scene import BASE, Scene, a_source

HOST = "inner-host-of-somebody.example"
ACCOUNT, DATABASE = "ZQ9173", "ZQ9173Data7"
ALSO = (PERSON, HOST, ACCOUNT, DATABASE, "Jane Q. Publicly", "jane.publicly", "files.example", "api.aims360.example")
MESSAGE = f"no {TOKEN} {PASSWORD} {LINK} {PERSON} Jane Q. Publicly of {ACCOUNT} ({DATABASE}) on {HOST}:8080, job "


def report_on(
    app: Callable[..., Any], source: Source | None = None, world: World | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the report on a service, as text and as JSON."""
    scene = Scene(None, world or World(), source)  # type: ignore[arg-type]
    report = Report()
    chapter = report.open(scene.source.base_url)
    transport = httpx.WSGITransport(app=app)
    with Api(scene.source, scene.clock, transport, heard=chapter.hear, overheard=chapter.overhear) as api:
        for check in examine_service(api):
            chapter.add_check(check)
    text = report.encode().decode()
    return text, json.loads(text)


CUSTOMER = "BlueRidgeOutfitters"  # which is a name of letters


def plant(row: dict[str, Any], job_id: str) -> dict[str, Any]:
    """Return a row with secrets in each property that isn't looked at by the way, and in more."""
    documents: list[dict[str, Any]] = [
        {"documentName": PERSON, "DownloadLink": LINK, PERSON: LINK, "Size": TOKEN, "Type": [ACCOUNT]}
    ]
    documents[0] |= {CUSTOMER: 1, "items": [{CUSTOMER: CUSTOMER}]}
    return {
        **row,
        "accountCode": ACCOUNT,
        "DatabaseName": DATABASE,
        "createdBy": PERSON,
        "modifiedBy": "Jane Q. Publicly",
        "publishLink": LINK,
        "requestURL": f"https://{HOST}/path?token={TOKEN}",
        "response": json.dumps(documents),
        "jobStatusText": MESSAGE + job_id,
        "clientRequestId": PASSWORD,
        "jobDescription": CLIENT_SECRET,
        "categoryName": [TOKEN, {PERSON: LINK}],
        PERSON: LINK,
        TOKEN: TOKEN,
        LINK: {LINK: [LINK]},
        job_id: job_id,
        "x" * 41: PASSWORD,
        f"{TOKEN}@odata.type": TOKEN,
        "createdBy@odata.type": PERSON,
        "undocumented": job_id,
    }


class Planted:
    """A service that repeats secrets in all that it says."""

    def __init__(self, emulator: Emulator, echo: bytes | None = None) -> None:
        self.emulator, self.echo = emulator, echo

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        started: list[Any] = []
        body = b"".join(self.emulator(environ, lambda *given: started.extend(given)))
        status, headers = started
        if environ["REQUEST_METHOD"] == "GET":
            body = self.change(body, status)
        kept = [(name, value) for name, value in headers if name != "Content-Length"]
        start_response(status, [*kept, *self.list_headers()])
        return [body]

    def change(self, body: bytes, status: str) -> bytes:
        """Return a page with secrets in its rows and links; an error with secrets, or the echo."""
        if status != "200 OK" and self.echo is not None:
            return self.echo
        try:
            value = json.loads(body)
        except ValueError:
            return f"<html><title>{MESSAGE}</title><h1>Forbidden {TOKEN}</h1></html>".encode()
        if "error" in value:
            error = value["error"] | {"code": TOKEN, "innererror": {PERSON: LINK}, "target": ACCOUNT}
            error["message"] = f"{error['message']} {MESSAGE}{self.first}"
            return json.dumps({"requestId": self.first, "error": error, HOST: LINK}).encode()
        if "value" in value:
            value["value"] = [plant(row, str(row["jobID"])) for row in value["value"]]
            value["@odata.context"] = f"https://{HOST}/{TOKEN}/$metadata#{PERSON}"
            value["@odata.nextLink"] = (
                f"https://{HOST}/{ACCOUNT}?$skip=20&$filter=createdBy eq '{PERSON}'&{TOKEN}={LINK}"
            )
            value[f"@{PERSON}"] = LINK
            return json.dumps(value).encode()
        return json.dumps(plant(value, self.first)).encode()

    @property
    def first(self) -> str:
        """The jobID of a job."""
        return str(next(self.emulator.world.jobs())["jobID"])

    def list_headers(self) -> list[tuple[str, str]]:
        """Return headers whose names and values are secrets."""
        plain = TOKEN.replace("/", "").replace("=", "")
        return [
            ("Server", f"{HOST}/1.0"),
            ("Retry-After", ACCOUNT),
            ("Preference-Applied", f"odata.maxpagesize={PASSWORD}"),
            ("OData-Version", TOKEN),
            ("Content-Encoding", "identity"),
            ("Set-Cookie", f"session={TOKEN}"),
            ("WWW-Authenticate", f"Bearer realm={HOST}"),
            ("Location", LINK),
            ("X-Served-By", f"{PERSON} on {HOST}"),
            (f"X-{plain}", PASSWORD),
            (f"X-{ACCOUNT}", "1"),
            (HOST, "1"),
        ]


def check_secrets(text: str, world: World) -> None:
    """Assert that no secret, no job and no value of a row stands in a report."""
    assert leaks(text, *ALSO) == set()
    for secret in (ACCOUNT, CUSTOMER, HOST, PERSON, "Publicly", "publicly", "api.aims360", "https://", "@example"):
        assert secret not in text
    for job in world.jobs():
        payload = world.payload(job)
        shown = json.dumps([payload[name] for name in ("jobID", "jobDescription", "createdBy", "DatabaseName")])
        assert not any(value in text for value in json.loads(shown) if value)


HABITS = {
    "nothing is refused": ServiceOptions(),
    "all is refused": ServiceOptions(refused=frozenset({*OPTIONS, "eq"}), pagesize="refused"),
    "in a firewall's words": ServiceOptions(refused=frozenset({"orderby", "top"}), refusal_words="html-403"),
    "without a path": ServiceOptions(refused=frozenset({"or", "jobID"}), has_plain_path=False),
    "links that are names": ServiceOptions(next_link="inner-no-prefix", next_link_by="key-token"),
}


@pytest.mark.parametrize("options", HABITS.values(), ids=[*HABITS])
@pytest.mark.parametrize("credentials", [Secret(TOKEN), GRANT], ids=["token", "grant"])
def test_no_secret_stands_in_a_report(options: ServiceOptions, credentials: Secret | PasswordGrant) -> None:
    """Planted in rows, names of properties, links, headers, errors and pages of HTML, whatever the service refuses."""
    world = populated(60, seed=3, rate=0)
    grant: dict[str, Any] = {"client_secret": CLIENT_SECRET, "username": PERSON, "password": PASSWORD}
    emulator = Emulator(world, token=TOKEN, page_size=20, options=options, **grant)
    text, report = report_on(Planted(emulator), a_source(credentials=credentials), world)
    check_secrets(text, world)
    [source] = report["sources"]
    assert len(source["requests"]) >= 10
    assert {request["status"] for request in source["requests"]} <= {200, 400, 403, 404}
    assert ("/authentication/v1/authentication/token" in text) is isinstance(credentials, PasswordGrant)


@pytest.mark.parametrize("echo", sorted(ECHOES))
def test_no_secret_of_an_error_stands_in_a_report(echo: str) -> None:
    """Whatever form the answer has that repeats them."""
    world = populated(30, seed=4, rate=0)
    options = ServiceOptions(refused=frozenset({"orderby", "modifiedDate", "ID"}))
    text, _ = report_on(Planted(Emulator(world, token=TOKEN, options=options), ECHOES[echo]), a_source(), world)
    source = a_source(credentials=Secret(TOKEN))
    text, _ = report_on(Planted(Emulator(world, token=TOKEN, options=options), ECHOES[echo]), source, world)
    check_secrets(text, world)


def test_a_report_holds_what_the_authors_learn_from() -> None:
    """Queries with shapes, statuses, headers, and the shape of a page with its rows and links."""
    world = populated(60, seed=3, rate=0)
    world.change(next(world.jobs()), percentCompleted=1)
    options = ServiceOptions(refused=frozenset({"orderby"}), next_link="inner-no-prefix")
    text, report = report_on(Emulator(world, page_size=20, options=options), world=world)
    check_secrets(text, world)
    assert next(iter(report)) == "about"
    assert "no values" in report["about"]
    [source] = report["sources"]
    first, ordered, *others = source["requests"]
    assert first["answer"]["rows"] == 20
    assert first["answer"]["context"]["path"] == "that of the metadata, without /jobsmanagement/"
    assert first["answer"]["next_link"]["host"] == "other"
    assert first["answer"]["next_link"]["query"] == "$skip=20"
    assert first["headers"]["content-type"] == "application/json; odata.metadata=minimal"
    row = first["answer"]["row"]["properties"]
    assert row["jobID"] == {"text": {"a GUID and 17 digits": "20 times, 54 characters"}}
    assert row["rowversion"] == {"text": {"8 bytes in base64": "20 times, 12 characters"}}
    assert row["purgeDays"] == {"whole number": "20 times, 2 digits"}
    assert row["canReRun"] == {"text": {"a word of letters, capitalised": "20 times, 2-3 characters"}}
    assert "items of lists" in row["response"]["JSON in texts"]
    assert (ordered["status"], ordered["query"]) == (400, "$orderby=modifiedDate desc")
    assert "Query option 'OrderBy' is not allowed" in ordered["answer"]["message"]
    queries = [request["query"] for request in others]
    assert "$filter=modifiedDate ge DATE(24)" in queries
    assert "$filter=jobID gt 'TEXT(54)'" in queries
    assert any(request["path"] == "/jobsmanagement/v1.0/backgroundjob/TEXT(54)" for request in others)
    [orderby] = [check for check in source["checks"] if check.get("capability") == "orderby"]
    assert (orderby["outcome"], orderby["is_plain"]) == ("refused", True)
    [strategy] = [check for check in source["checks"] if check["check"] == "strategy"]
    assert (strategy["paging"], strategy["window_by"]) == ("key_unordered", "modifiedDate")


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("", "empty"),
        ("2019-06-07T06:08:19.64Z", "a date with 2 digits of a fraction and Z"),
        ("2019-06-07T06:08:19+02:00", "a date with no fraction and an offset"),
        ("2019-06-07", "a date with no fraction and no zone"),
        ("0001-01-01T00:00:00Z", "a date before 1980 with no fraction and Z"),
        ("D29FAC30-650A-4FF2-B2B1-ACAB3C7472EA", "a GUID in upper case"),
        ("{d29fac30-650a-4ff2-b2b1-acab3c7472ea}", "a GUID in braces"),
        ("d29fac30-650a-4ff2-b2b1-acab3c7472ea-20190607060819639", "a GUID and 17 digits"),
        ("AAAAAAAIJCU=", "8 bytes in base64"),
        ("AAAAAAAIJC-", "8 bytes in base64url"),
        ("Publishlink", "a word of letters, capitalised"),
        ('W/"YmluYXJ5J0FBQUFBQUFMRHVvPSc="', "an etag that holds a rowversion"),
        ('W/"20190607"', "an etag of another form"),
        ("30", "digits"),
        ("1.5", "a decimal number"),
        ("someone@example.com", "an e-mail address"),
        ("https://a.example/b/c?d=1&e=2", "an address: https, another host, a path of 2 parts, 2 options"),
        ("https://own.example/b", "an address: https, its own host, a path of 1 parts, 0 options"),
        ("gopher://a/b", "an address: another scheme, another host, a path of 1 parts, 0 options"),
        ("http://[a", "like an address, and it can't be read"),
        ("Yes", "a word of letters, capitalised"),
        ("InProgress", "a word of letters, mixed case"),
        ("Production Forecasting Report", "words of letters"),
        ("über 3\n", "text, not ASCII, with line breaks or tabs"),
    ],
)
def test_texts_have_spellings(text: str, spelling: str) -> None:
    """Of dates, keys, versions and words, since they decide what this program can read."""
    assert spell(text, "own.example") == spelling


def test_odd_values_have_shapes() -> None:
    """Every type of JSON, nested as deep as anybody likes, and numbers without an end."""
    shape = Shape("")
    deep: object = "x"
    for _ in range(50):
        deep = {"a": [deep]}
    for value in (None, True, 7, -1234, 1.5, "x", [], [1, "a"], {"a": None}, deep, "[1, 2", '{"b": [1]}'):
        shape.add(value)
    shown = json.dumps(shape.show())
    assert "nested deeper than is looked at" in shown
    assert "like JSON, and it can't be read" in shown
    wide = Shape("", is_row=True)
    wide.add({f"{'a' * (1 + n % 30)}{chr(97 + n % 26)}{'b' * (n // 30)}": n for n in range(300)})
    assert len(wide.properties) == 101
    many = Shape("")
    for number in range(60):
        many.add(f"https://a.example{'/b' * number}")
    assert len(many.texts) == 31


@pytest.mark.parametrize(
    ("query", "shape"),
    [
        ("", ""),
        ("$filter=jobID%20gt%20'a%20secret''s'&$top=3", "$filter=jobID gt 'TEXT(11)'&$top=3"),
        ("$filter=modifiedDate ge 2019-06-07T06:09:22.737Z and ID le 52714", ""),
        ("$skiptoken=ID-52714", "$skiptoken=ID-NUMBER(5)"),
        ("$skiptoken=jobID-'d29fac30'", "$skiptoken=jobID-'TEXT(8)'"),
        ("$skiptoken=secret-1", "$skiptoken=TEXT(8)"),
        ("$skip=1000000&pagesize=250", "$skip=NUMBER(7)&pagesize=250"),
        ("$select=ID,secret", "$select=ID,TEXT(6)"),
        ("secret=secret&x", "(a name of 6 characters)=TEXT(6)&(a name of 1 characters)"),
        ("$filter='unclosed secret", "$filter=TEXT(9) TEXT(6)"),
        (
            "$filter=contains(createdBy,'x') or secret eq null",
            "$filter=contains(createdBy,'TEXT(1)') or TEXT(6) eq null",
        ),
    ],
)
def test_queries_have_shapes(query: str, shape: str) -> None:
    """Each literal, and each name that isn't the API's."""
    expected = shape or "$filter=modifiedDate ge DATE(24) and ID le NUMBER(5)" * bool(query)
    assert shape_query(query) == expected


def test_addresses_links_names_and_codes_have_shapes() -> None:
    """What isn't known is a length."""
    assert shape_address("/secret/path?$top=1") == ("(another path of 12 characters)", "$top=1")
    assert shape_link(7, BASE) == {"type": "int"}
    assert shape_link("http://[x", BASE)["form"] == "no address"
    link = shape_link(f"{BASE}/jobsmanagement/odata/v1.0/backgroundjob?$skip=100", BASE)
    assert (link["host"], link["path"], link["query"]) == ("own", "that of the collection", "$skip=100")
    assert shape_link("backgroundjob?$skip=100", BASE)["host"] == "none"
    assert show_name("percentCompleted") == "percentCompleted"
    assert show_name("createdBy@odata.type") == "createdBy@odata.type"
    assert show_name("someone@odata.com") == "(a name of 17 characters)"
    assert show_name("name1") == "(a name of 5 characters)"
    assert (shape_code("BadRequest"), shape_code(""), shape_code("AZ022")) == ("BadRequest", "", "TEXT(5)")


def test_headers_have_shapes() -> None:
    """The values of a few, if they have the form that they should have."""
    shown = shape_headers(
        {
            "Content-Type": "application/json; odata.metadata=minimal; x=secret",
            "OData-Version": "4.0",
            "Preference-Applied": "odata.maxpagesize=5",
            "Retry-After": "30",
            "Server": "Microsoft-IIS/10.0",
            "Date": "Mon, 02 Mar 2026 09:00:00 GMT",
            "X-Secret": "secret",
            "X-AZ022": "1",
        }
    )
    assert shown == {
        "content-type": "application/json; odata.metadata=minimal; TEXT(8)",
        "odata-version": "4.0",
        "preference-applied": "odata.maxpagesize=5",
        "retry-after": "30",
        "server": "Microsoft-IIS/10.0",
        "date": "a date of HTTP (29 characters)",
        "x-secret": "6 characters",
        "(a name of 7 characters)": "1 characters",
    }
    assert shape_headers({"Content-Type": "secret/x", "Server": "host7"}) == {
        "content-type": "TEXT(8)",
        "server": "5 characters",
    }


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_the_words_of_the_framework_are_shown(option: str) -> None:
    """They say what is refused, and are no secret."""
    message = ""
    try:
        check_options([f"${option}"], frozenset({option} - {"top"}))
    except BadQuery as bad:
        message = json.loads(answer_bad_query(bad, "framework").body)["error"]["message"]
    assert shape_message(message) == message
    assert (message == "") is (option == "top")


@pytest.mark.parametrize(
    "message",
    [
        "The limit of '0' for Top query has been exceeded. The value from the incoming request is '3'.",
        "The property 'modifiedDate' cannot be used in the $filter query option.",
        "The node count limit of '100' has been exceeded. To increase the limit, set the 'MaxNodeCount' property.",
        "This endpoint doesn't support the operator 'or' in $filter.",
    ],
)
def test_messages_of_known_words_are_shown_as_they_are(message: str) -> None:
    """Words of a list, short numbers, names of the API."""
    assert shape_message(message) == message


def test_other_words_of_a_message_are_lengths() -> None:
    """A name in small letters could be anybody's."""
    said = shape_message("The user smith of acme (AZ022, 50123) is not allowed on host7; see a.b.example")
    assert said == "The user TEXT(5) of TEXT(4) (TEXT(5), NUMBER(5)) is not allowed on TEXT(5); see TEXT(11)"


@pytest.mark.parametrize(
    ("status", "body", "form"),
    [
        (200, b'{"value": [{"jobID": "a"}, {"jobID": "b", "x": NaN}]}', "a page"),
        (200, b'{"jobID": "a"}', "JSON"),
        (200, b'{"value": [{"jobID": ', "no JSON"),
        (500, b"", "empty"),
        (502, b"<html><title>502 Bad Gateway</title></html>", "an HTML page"),
        (200, b"[1]", "JSON, and no object"),
        (400, b'{"error": "no"}', "JSON"),
    ],
)
def test_bodies_have_shapes(status: int, body: bytes, form: str) -> None:
    """Of pages, jobs, errors, and of what is none of these."""
    assert describe_answer(Answer(status, {}, body), BASE)["form"] == form


def test_requests_without_an_answer_are_in_the_report() -> None:
    """With what kind of error ended them; and an answer that nobody asked for is left out."""
    report = Report()
    chapter = report.open(BASE)
    chapter.overhear({}, Answer(200, {}, b"{}"))
    chapter.hear(Exchange("GET", "/jobsmanagement/odata/v1.0/backgroundjob", None, 60.0, "ReadTimeout"))
    [request] = json.loads(report.encode())["sources"][0]["requests"]
    assert (request["status"], request["failed"], request["seconds"]) == (None, "ReadTimeout", 60.0)


def test_the_command_writes_the_file(command: Command, tmp_path: Path) -> None:
    """All or nothing, beside what it says; `--json` stays JSON."""
    path = tmp_path / "report.json"
    path.write_text("before")
    code, output, errors = command.run("doctor", "--json", "--report", str(path))
    assert code == 0, output
    assert json.loads(output)
    assert errors == f"{path}: what was asked, and the shapes of the answers; read it before you send it\n"
    report = json.loads(path.read_text())
    assert len(report["sources"][0]["requests"]) > 10
    assert "127.0.0.1" not in path.read_text()
    code, _, errors = command.run("doctor", "--report", str(tmp_path / "missing" / "report.json"))
    assert (code, "can't be written" in errors) == (2, True)
