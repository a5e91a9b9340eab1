"""One account of a fleet: its world, its service, its limit, and the mood it is in."""

import math
from collections.abc import Callable, Iterable
from datetime import datetime
from threading import Event, RLock
from typing import Any
from uuid import UUID

from etl.testing.emulator.app import Emulator
from etl.testing.emulator.faults import KINDS, Faults
from etl.testing.emulator.oauth import Tokens
from etl.testing.emulator.populate import populated
from etl.testing.emulator.rate_limiter import Allowance
from etl.testing.emulator.responses import Answer, not_granted, throttled, unauthorized
from etl.testing.emulator.sample_data import Account as Whose
from etl.testing.emulator.tenants import Mood, Tenant

HANGS_FOR = 600.0  # seconds, after which even a hanging server lets go
_FAILING = 1 / 3
_RENDERED_AT_MOST = 20  # a quiet account is asked for its newest rows, and thousands of accounts have one memory


class Account:
    """A tenant as it lives; a WSGI application for whoever signs in as this tenant.

    Its world is made when it is first asked for, so that a fleet of thousands starts at once. `clock` is everybody's:
    the tenant's own is off by its skew. `wall` is the seconds by which requests are counted. `requests`: how many came.
    """

    def __init__(self, tenant: Tenant, clock: Callable[[], datetime], wall: Callable[[], float]) -> None:
        self.tenant = tenant
        self.links = ""
        self.requests = 0
        self._clock, self._wall = clock, wall
        self._mood: Mood = tenant.mood
        self._allowance = Allowance(tenant.rate)
        self._emulator: Emulator | None = None
        self._lock = RLock()

    @property
    def mood(self) -> Mood:
        """How it is served from now on."""
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        with self._lock:
            self._mood = mood
            if self._emulator is not None:
                self._emulator.set_faults(self._faults())

    @property
    def is_made(self) -> bool:
        """Whether its world was asked for yet."""
        return self._emulator is not None

    @property
    def emulator(self) -> Emulator:
        """Its service."""
        with self._lock:
            if self._emulator is None:
                self._emulator = self._made()
            return self._emulator

    def now(self) -> datetime:
        """The time by its clock."""
        return self._clock() + self.tenant.skew

    def backfill(self, rows: int) -> None:
        """So many jobs more, all on one tick of now."""
        with self.emulator.still() as world:
            world.ties(rows)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI). `environ["emulator.over"]` ends all waiting."""
        over: Event = environ.get("emulator.over") or Event()
        over.wait(HANGS_FOR if self._mood == "hangs" else self.tenant.latency)
        with self._lock:
            self.requests += 1
            refusal = self._refusal(environ)
        if refusal is None:
            return self.emulator(environ, start_response)
        refusal.dated(self.now()).started(start_response)
        return [refusal.body]

    def _refusal(self, environ: dict[str, Any]) -> Answer | None:
        """The answer to a request that the service itself never sees."""
        if self._mood == "throttles":
            return throttled(1)
        if self._mood == "refuses":
            return unauthorized() if environ.get("HTTP_AUTHORIZATION") else not_granted()
        wait = self._allowance.wait(self._wall())
        return throttled(math.ceil(wait)) if wait else None

    def _faults(self) -> Faults:
        # a token that somebody made by hand would not outlive the fault that withdraws all tokens
        kinds = tuple(kind for kind in KINDS if kind != "expired-token" or not self.tenant.has_token)
        return Faults(_FAILING if self._mood == "fails" else 0.0, kinds, self.tenant.seed)

    def _made(self) -> Emulator:
        tenant = self.tenant
        client = str(UUID(int=tenant.seed, version=4)).upper()
        whose = Whose(client, f"{tenant.name.upper()}Data1", tenant.name.upper())
        world = populated(
            tenant.jobs,
            seed=tenant.seed,
            now=self.now(),
            links=self.links,
            accounts=(whose,),
            rendered_at_most=_RENDERED_AT_MOST,
        )
        emulator = Emulator(world, next_link="always", clock=self.now, faults=self._faults(), is_logged=False)
        emulator.tokens = Tokens(tenant.credentials)
        return emulator
