"""How a fleet is steered and looked into from outside its process (WSGI). JSON; nobody signs in.

GET  /accounts                        all: name, region, mood, jobs (null: not made yet), requests, its own time
GET  /accounts/NAME/jobs              the rows it shows, and its own time: {"now": …, "jobs": […]}
POST /accounts/NAME/mood/MOOD         how it is served from now on
POST /accounts/NAME/backfill/ROWS     so many jobs more, all of this instant
POST /clocks/stop                     time stands still for all; since when: {"now": …}
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from etl.testing.emulator.account import Account
from etl.testing.emulator.responses import Answer, error, plain_json
from etl.testing.emulator.tenants import MOODS


class Steerable(Protocol):
    """What is steered: a `Fleet`."""

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts by name."""

    def now(self) -> datetime:
        """The time."""

    def stop_clocks(self) -> datetime:
        """Time stands still for all accounts; since when."""


class Steering:
    """The wheel of a fleet."""

    def __init__(self, fleet: Steerable) -> None:
        self._fleet = fleet

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        answer = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/").split("/")).dated(
            self._fleet.now()
        )
        answer.started(start_response)
        return [answer.body]

    def _answer(self, method: str, way: list[str]) -> Answer:
        account = self._fleet.accounts.get(way[1]) if way[0] == "accounts" and len(way) > 1 else None
        match method, account, way[2:]:
            case ["GET", None, []] if way == ["accounts"]:
                return plain_json(200, list(map(_told, self._fleet.accounts.values())))
            case ["POST", None, []] if way == ["clocks", "stop"]:
                return plain_json(200, {"now": self._fleet.stop_clocks().isoformat()})
            case ["GET", Account(), ["jobs"]]:
                return _jobs(account)
            case ["POST", Account(), ["mood", mood]] if mood in MOODS:
                account.mood = mood
                return plain_json(200, _told(account))
            case ["POST", Account(), ["backfill", rows]] if rows.isdecimal():
                account.backfill(int(rows))
                return plain_json(200, _told(account))
        return error(404, "NotFound", "No such account, or nothing that can be asked of one.")


def _told(account: Account) -> dict[str, Any]:
    tenant = account.tenant
    jobs = len(account.emulator.world) if account.is_made else None
    return {
        "name": tenant.name,
        "region": tenant.region,
        "mood": account.mood,
        "jobs": jobs,
        "requests": account.requests,
        "now": account.now().isoformat(),
    }


def _jobs(account: Account) -> Answer:
    with account.emulator.still() as world:
        return plain_json(200, {"now": world.now.isoformat(), "jobs": [job.payload() for job in world.jobs()]})
