"""Many accounts in two regions, served by one process. Which account it is, is told by who signs in.

    fleet = Fleet(tenants(2_000), clock)
    with serve_fleet(fleet) as at: ...      # at.west, at.east: base addresses; at.steering: see `admin_api`

An account lives in one region; in the other its token and its password are unknown.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from etl.testing.emulator.account import Account
from etl.testing.emulator.admin_api import Steering
from etl.testing.emulator.requests import body_of
from etl.testing.emulator.responses import not_granted, unauthorized
from etl.testing.emulator.server import Application, serve
from etl.testing.emulator.tenants import REGIONS, Region, Tenant


class Fleet:
    """The accounts by name, and the clock they go by, which may be stopped."""

    def __init__(self, tenants: Iterable[Tenant], clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._stopped: datetime | None = None
        self.accounts = {
            tenant.name: Account(tenant, self.now, lambda: self._clock().timestamp()) for tenant in tenants
        }

    def now(self) -> datetime:
        """The time, before each account's skew."""
        return self._stopped or self._clock()

    def stop_clocks(self) -> datetime:
        """From now on time stands still for all accounts, so that mirrors can catch up; since when."""
        self._stopped = self.now()
        return self._stopped


class Doorway:
    """The service of a region (WSGI): lets in who lives there."""

    def __init__(self, fleet: Fleet, region: Region) -> None:
        self._now = fleet.now
        self._here = [each for each in fleet.accounts.values() if each.tenant.region == region]
        self._by_user = {each.tenant.credentials.username: each for each in self._here}
        # a granted token is known by how it begins
        self._by_token = {each.tenant.credentials.granted: each for each in self._here}
        self._by_token |= {each.tenant.credentials.token or "": each for each in self._here if each.tenant.has_token}

    def live_at(self, url: str) -> None:
        """Rows made from now on have links to this address."""
        for account in self._here:
            account.links = url

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        is_grant = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"].lower().endswith("/token")
        account = self._who_asks_a_token(environ) if is_grant else self._who(environ)
        if account is not None:
            return account(environ, start_response)
        refusal = (not_granted() if is_grant else unauthorized()).dated(self._now())
        refusal.started(start_response)
        return [refusal.body]

    def _who(self, environ: dict[str, Any]) -> Account | None:
        token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")[2]
        found = self._by_token.get(token) or self._by_token.get(token.rpartition("-")[0])
        return found or self._whose_output(environ["PATH_INFO"])

    def _who_asks_a_token(self, environ: dict[str, Any]) -> Account | None:
        body = body_of(environ)
        environ["wsgi.input"] = BytesIO(body)  # for the account to read once more
        [user] = parse_qs(body.decode("utf-8", "replace")).get("username", [""])[-1:]
        return self._by_user.get(user)

    def _whose_output(self, path: str) -> Account | None:
        """The account whose output that is: a public one can be had without a token."""
        _, is_output, place = path.lower().partition("/aimsdocument/")
        job_id = place.partition("/")[0]
        alive = (each for each in self._here if is_output and each.is_made)
        return next((each for each in alive if each.emulator.world.get(job_id)), None)


class Addresses(NamedTuple):
    """Where a fleet is: a base address for each region, and the one by which it is steered."""

    west: str
    east: str
    steering: str


@contextmanager
def serve_fleet(fleet: Fleet, ports: tuple[int, int, int] = (0, 0, 0), host: str = "127.0.0.1") -> Iterator[Addresses]:
    """Serve a fleet in background threads: west, east, steering; 0 takes a free port. Raises OSError."""
    with ExitStack() as servers:
        doorways = [Doorway(fleet, region) for region in REGIONS]
        applications: list[Application] = [*doorways, Steering(fleet)]
        each = zip(applications, ports, strict=True)
        west, east, steering = (servers.enter_context(serve(every, host, port)).url for every, port in each)
        for doorway, url in zip(doorways, (west, east), strict=True):
            doorway.live_at(url)
        yield Addresses(west, east, steering)
