"""The fleet of the emulator's process, steered and looked into over HTTP."""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

_PATIENCE = 300  # seconds: a backfill of a million rows takes a minute to make
# It is on this machine, whatever proxy the environment names.
_OPEN = build_opener(ProxyHandler({})).open


class Wheel:
    """The fleet that is steered at an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def names(self) -> list[str]:
        """The accounts, in their order."""
        return [account["name"] for account in self._accounts()]

    def requests(self) -> int:
        """How many requests came so far, to all accounts."""
        return sum(account["requests"] for account in self._accounts())

    def now(self, leave_out: Collection[str] = ()) -> dict[str, datetime]:
        """The time by each account's own clock, cut to the second as its Date is."""
        told = {account["name"]: datetime.fromisoformat(account["now"]) for account in self._accounts()}
        return {name: now.replace(microsecond=0) for name, now in told.items() if name not in leave_out}

    def set_mood(self, name: str, mood: str) -> None:
        """How the account is served from now on."""
        self._asked("POST", f"accounts/{name}/mood/{mood}")

    def backfill(self, name: str, rows: int) -> None:
        """So many jobs more."""
        self._asked("POST", f"accounts/{name}/backfill/{rows}")

    def stop_clocks(self) -> None:
        """Time stands still for all accounts, so that mirrors can be compared with them."""
        self._asked("POST", "clocks/stop")

    def jobs(self, name: str) -> tuple[datetime, Mapping[str, Mapping[str, Any]]]:
        """The account's time, and the jobs that it shows by their keys."""
        found = self._asked("GET", f"accounts/{name}/jobs")
        return datetime.fromisoformat(found["now"]), {job["jobID"]: job for job in found["jobs"]}

    def _accounts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._asked("GET", "accounts")
        return found

    def _asked(self, method: str, way: str) -> Any:
        request = Request(f"{self._address}/{way}", method=method)  # noqa: S310 - our own emulator's address
        with _OPEN(request, timeout=_PATIENCE) as answer:
            return json.load(answer)
