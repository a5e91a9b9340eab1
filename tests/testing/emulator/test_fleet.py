"""The emulator of a fleet: what it promises about accounts, regions, limits and moods."""

import json
import stat
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import httpx
import pytest

from etl.testing.emulator import START, Addresses, Fleet, Tenant, configured, serve_fleet, tenants
from etl.testing.emulator.rate_limiter import Allowance
from etl.testing.emulator.tenants import jobs_a_month
from tests.support.command import Command

COLLECTION = "/jobsmanagement/odata/v1.0/backgroundjob"
TOKEN = "/authentication/v1/authentication/token"


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)


class Served:
    """A fleet of 60 on sockets: how it is asked."""

    def __init__(self, fleet: Fleet, at: Addresses, clock: Clock, client: httpx.Client) -> None:
        self.fleet, self.at, self.clock, self.client = fleet, at, clock, client

    def base(self, tenant: Tenant) -> str:
        return self.at.west if tenant.region == "west" else self.at.east

    def ask(self, tenant: Tenant, token: str | None = None, base: str | None = None, query: str = "") -> httpx.Response:
        """A page of the tenant's jobs."""
        headers = {"Authorization": f"Bearer {token or tenant.credentials.token}"}
        return self.client.get(f"{base or self.base(tenant)}{COLLECTION}{query}", headers=headers)

    def grant(self, tenant: Tenant, base: str | None = None, **other: str) -> httpx.Response:
        given = tenant.credentials
        form = {
            "grant_type": "password",
            "client_id": given.client_id,
            "client_secret": given.client_secret,
            "username": given.username,
            "password": given.password,
        }
        return self.client.post(f"{base or self.base(tenant)}{TOKEN}", data={**form, **other})

    def steer(self, way: str) -> Any:
        return self.client.post(f"{self.at.steering}/{way}").json()

    def jobs(self, tenant: Tenant) -> dict[str, Any]:
        """What it shows, as the steering tells."""
        found: dict[str, Any] = self.client.get(f"{self.at.steering}/accounts/{tenant.name}/jobs").json()
        return found

    def some(self, region: str = "west", *, token: bool = True) -> Tenant:
        """A tenant with some jobs that lives there and signs in that way."""
        everybody = (account.tenant for account in self.fleet.accounts.values())
        return next(each for each in everybody if each.region == region and each.has_token == token and each.jobs > 5)


@pytest.fixture
def served() -> Iterator[Served]:
    clock = Clock()
    fleet = Fleet(tenants(60, seed=3, rate=5), clock)
    with serve_fleet(fleet) as at, httpx.Client(timeout=10) as client:
        yield Served(fleet, at, clock, client)


# -- who there is ------------------------------------------------------------------------------------------------------


def test_a_fleet_is_skewed() -> None:
    """Half of the accounts make some 30 jobs a month, one in a hundred makes a thousand, none makes no sense."""
    sizes = sorted(jobs_a_month(Random(seed)) for seed in range(2000))
    assert 25 <= median(sizes) <= 35
    assert sizes[0] >= 0
    assert 500 < sizes[-20] < 2000
    assert 2000 < sizes[-1] <= 20_000


def test_the_same_seed_gives_the_same_fleet() -> None:
    """Each account has a name and a seed of its own; half live in each region; clocks stay in bounds."""
    fleet = tenants(200, seed=7, skew=timedelta(seconds=2))
    assert fleet == tenants(200, seed=7, skew=timedelta(seconds=2)) != tenants(200, seed=8)
    assert len({each.name for each in fleet}) == len({each.seed for each in fleet}) == 200
    assert Counter(each.region for each in fleet) == {"west": 100, "east": 100}
    assert {each.has_token for each in fleet} == {True, False}
    skews = [each.skew for each in fleet]
    assert timedelta(seconds=-2) <= min(skews) < timedelta() < max(skews) <= timedelta(seconds=2)


def test_moods_are_handed_out_from_the_first() -> None:
    """So many accounts have each, the others are well; more moods than accounts make no sense."""
    moods = [each.mood for each in tenants(5, moods={"hangs": 1, "refuses": 2})]
    assert moods == ["hangs", "refuses", "refuses", "well", "well"]
    with pytest.raises(ValueError, match="3 moods for 2 accounts"):
        tenants(2, moods={"fails": 3})


def test_an_allowance_is_so_many_a_second() -> None:
    """A second's worth at once; then each waits its turn, and a refused one costs nothing."""
    allowance = Allowance(4)
    assert [allowance.wait(100) for _ in range(5)] == [0, 0, 0, 0, 0.25]
    assert allowance.wait(100) == 0.25
    assert allowance.wait(100.25) == 0
    assert [allowance.wait(200) for _ in range(5)].count(0) == 4


# -- who signs in ------------------------------------------------------------------------------------------------------


def test_the_token_tells_the_account(served: Served) -> None:
    """Each sees jobs of its own, made by a client of its own, at one and the same address."""
    west = [each.tenant for each in served.fleet.accounts.values() if each.tenant.region == "west"]
    clients = [{job["clientID"] for job in served.ask(each).json()["value"]} for each in west if each.has_token]
    seen = [client for client in clients if client]
    assert all(len(client) == 1 for client in seen)
    assert len(set().union(*seen)) == len(seen) > 15


def test_a_granted_token_leads_to_its_account(served: Served) -> None:
    """A password grant of its own; with another's password it is refused."""
    one = served.some(token=False)
    token = served.grant(one).json()["access_token"]
    assert served.ask(one, token).json()["value"][0]["accountCode"] == one.name.upper()
    refused = served.grant(one, password="another's")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    served.clock.pass_by(hours=2)
    assert served.ask(one, token).status_code == 401


def test_a_region_does_not_know_the_tenants_of_the_other(served: Served) -> None:
    """401 for a token, 400 for a password, at the other base; at their own both are good."""
    one, other = served.some("west"), served.some("east", token=False)
    assert served.ask(one).status_code == served.grant(other).status_code == 200
    assert served.ask(one, base=served.at.east).status_code == 401
    assert served.grant(other, base=served.at.west).status_code == 400
    assert served.ask(one, token="nobody's").status_code == 401


def test_outputs_are_had_where_the_account_lives(served: Served) -> None:
    """Links lead to the region's own address; a public one without a token."""
    everybody = [each.tenant for each in served.fleet.accounts.values() if each.tenant.has_token]
    rows = (row for each in everybody for row in served.jobs(each)["jobs"])
    public = next(row for row in rows if row["publishLinkAccessScope"] == "Public" and row["jobStatus"] == "Completed")
    assert served.client.get(public["publishLink"]).status_code == 200


# -- times, limits, moods ----------------------------------------------------------------------------------------------


def test_each_account_has_a_clock_of_its_own(served: Served) -> None:
    """Its Date, and the time by which it lives, are off by its skew; a stopped clock stands for all."""
    one = max((each.tenant for each in served.fleet.accounts.values()), key=lambda each: each.skew * each.has_token)
    assert one.skew > timedelta(seconds=1)
    dated = parsedate_to_datetime(served.ask(one).headers["Date"])
    assert dated == (START + one.skew).replace(microsecond=0)
    since = datetime.fromisoformat(served.steer("clocks/stop")["now"])
    served.clock.pass_by(days=3)
    assert since == START
    assert datetime.fromisoformat(served.jobs(one)["now"]) == START + one.skew
    assert parsedate_to_datetime(served.ask(one).headers["Date"]) == dated


def test_a_world_lives_by_the_clock_when_it_is_asked(served: Served) -> None:
    """Days later an account has other jobs, though nobody looked meanwhile."""
    one = served.some()
    before = {job["jobID"] for job in served.jobs(one)["jobs"]}
    served.clock.pass_by(days=40)
    after = {job["jobID"] for job in served.jobs(one)["jobs"]}
    assert after
    assert not before & after


def test_an_account_has_a_rate_limit_of_its_own(served: Served) -> None:
    """The sixth request of a second is a 429 with Retry-After; another account doesn't notice, and time heals."""
    one, other = served.some("west"), served.some("east")
    codes = [served.ask(one).status_code for _ in range(5)]
    refused = served.ask(one)
    assert (codes, refused.status_code, refused.headers["Retry-After"]) == ([200] * 5, 429, "1")
    assert served.ask(other).status_code == 200
    served.clock.pass_by(seconds=1)
    assert served.ask(one).status_code == 200


def test_one_that_throttles_does_so_for_ever(served: Served) -> None:
    """429 with Retry-After whatever the time, until its mood is another."""
    one = served.some()
    assert served.steer(f"accounts/{one.name}/mood/throttles")["mood"] == "throttles"
    for _ in range(3):
        served.clock.pass_by(minutes=1)
        answer = served.ask(one)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    served.steer(f"accounts/{one.name}/mood/well")
    assert served.ask(one).status_code == 200


def test_one_that_refuses_knows_no_token_and_no_password(served: Served) -> None:
    """401 to a token that was good a moment ago, 400 invalid_grant to the password."""
    one, other = served.some(), served.some(token=False)
    for each in (one, other):
        served.steer(f"accounts/{each.name}/mood/refuses")
    assert served.ask(one).status_code == 401
    assert served.grant(other).json()["error"] == "invalid_grant"


def test_one_that_fails_answers_now_and_then(served: Served) -> None:
    """Some calls fail, in many ways, and others are good."""
    one = served.some()
    served.steer(f"accounts/{one.name}/mood/fails")
    told: Counter[bool] = Counter()
    for _ in range(40):
        served.clock.pass_by(seconds=1)
        try:
            told[served.ask(one, query="?$top=1").status_code == 200] += 1
        except httpx.TransportError:
            told[False] += 1
    assert told[True] > 10 < told[True] + told[False]
    assert told[False] >= 5


def test_one_that_hangs_holds_up_nobody() -> None:
    """It accepts and doesn't answer; others are served meanwhile, and the server closes all the same, at once."""
    hanging, well = tenants(20, seed=3, moods={"hangs": 1})[0:3:2]
    fleet = Fleet([hanging, well], Clock())
    with serve_fleet(fleet) as at, httpx.Client(base_url=at.west) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(COLLECTION, headers={"Authorization": f"Bearer {hanging.credentials.token}"}, timeout=0.3)
        answer = client.get(COLLECTION, headers={"Authorization": f"Bearer {well.credentials.token}"}, timeout=10)
        assert answer.status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 5


# -- steered -----------------------------------------------------------------------------------------------------------


def test_the_steering_tells_of_all(served: Served) -> None:
    """Names, moods, sizes once they are made, and how many requests came."""
    one = served.some()
    served.ask(one)
    told = {each["name"]: each for each in served.client.get(f"{served.at.steering}/accounts").json()}
    assert len(told) == 60
    assert (told[one.name]["requests"], told[one.name]["mood"]) == (1, "well")
    assert told[one.name]["jobs"] == len(served.jobs(one)["jobs"])
    assert {each["jobs"] for name, each in told.items() if name != one.name} == {None}


def test_an_account_grows_on_demand(served: Served) -> None:
    """A backfill adds so many jobs of this instant."""
    one = served.some()
    before = len(served.jobs(one)["jobs"])
    assert served.steer(f"accounts/{one.name}/backfill/2000")["jobs"] == before + 2000


def test_what_cannot_be_steered_is_a_404(served: Served) -> None:
    """An account that isn't there, a mood that isn't one, a way that leads nowhere."""
    for way in ("accounts/nobody/mood/well", "accounts/a00001/mood/glad", "accounts/a00001/backfill/-3", "clocks", ""):
        assert served.client.post(f"{served.at.steering}/{way}").status_code == 404


# -- as a command ------------------------------------------------------------------------------------------------------


def test_the_configuration_names_a_source_an_account() -> None:
    """Bases by region, secrets in files of their own; no secret in aims360.toml."""
    fleet = tenants(40, seed=3)
    files = configured(fleet, Addresses("http://w", "http://e", "http://s"))
    text = files.pop("aims360.toml")
    assert json.loads(files.pop("fleet.json")) == {"west": "http://w", "east": "http://e", "steering": "http://s"}
    assert text.count("[sources.") == 40
    assert text.count('base_url = "http://e"') == 20
    assert not any(secret in text for secret in files.values())
    assert files["secrets/a00001.token"] == fleet[0].credentials.token


def test_a_fleet_can_be_mirrored_at_once(command: Command, tmp_path: Path) -> None:
    """`emulator --accounts --config` writes what a sync needs; secrets are their owner's alone."""
    folder = tmp_path / "fleet"
    with command.start("emulator", "--accounts", "4", "--port", "0", "--config", str(folder)) as serving:
        try:
            assert serving.stdout is not None
            said = [serving.stdout.readline() for _ in range(3)]
            assert said[-1].strip() == f"export AIMS360_CONFIG={folder / 'aims360.toml'}"
            for secret in (folder / "secrets").iterdir():
                assert stat.S_IMODE(secret.stat().st_mode) == 0o600
            at = json.loads((folder / "fleet.json").read_text())
            told = httpx.get(f"{at['steering']}/accounts").json()
            for name in ("AIMS360_BASE_URL", "AIMS360_TOKEN"):
                del command.environ[name]
            command.environ["AIMS360_CONFIG"] = str(folder / "aims360.toml")
            for each in told:
                code, output, errors = command.run("sync", "--source", each["name"], "--json")
                assert code == 0, errors
                jobs = httpx.get(f"{at['steering']}/accounts/{each['name']}/jobs").json()["jobs"]
                assert json.loads(output)["counts"]["inserted"] == len(jobs)
        finally:
            serving.terminate()


def test_options_of_the_other_kind_are_refused(command: Command) -> None:
    """--moods needs --accounts, --jobs goes without; and there can't be more moods than accounts."""
    for words, said in (
        (("--moods", "hangs=1"), "--moods: goes with --accounts"),
        (("--accounts", "3", "--jobs", "300"), "--jobs: goes with a single account"),
        (("--accounts", "3", "--moods", "hangs=4"), "--moods: are of 4 accounts, and there are 3"),
        (("--accounts", "3", "--moods", "glad=1"), "names are well, hangs, throttles, refuses, fails"),
    ):
        code, _, errors = command.run("emulator", "--port", "0", *words)
        assert code == 2
        assert said in " ".join(errors.split())


def test_a_large_fleet_is_there_at_once() -> None:
    """Worlds that nobody asked for cost nothing: two thousand accounts are there at once."""
    began = time.monotonic()
    fleet = Fleet(tenants(2000), lambda: datetime.now(UTC))
    with serve_fleet(fleet):
        assert time.monotonic() - began < 5
        assert not any(account.is_made for account in fleet.accounts.values())
