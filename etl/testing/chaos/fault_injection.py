"""What the machine can do to a run, at the process boundary: at the n-th round trip to Postgres it strikes.

The pipeline is not touched: its connection is of a class through whose `wait` every round trip goes, COPY included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any

import psycopg
from psycopg import errors, pq

from etl.postgres import connection

# At a COMMIT Postgres itself refuses: a deferred trigger raises the error then.
_ARM = """
CREATE TEMP TABLE IF NOT EXISTS sabotage (code text);
CREATE OR REPLACE FUNCTION pg_temp.strike() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'struck by sabotage' USING ERRCODE = new.code; END $$;
CREATE CONSTRAINT TRIGGER strike AFTER INSERT ON sabotage DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION pg_temp.strike();
"""
_RAISE = {
    "53100": b"DO $$ BEGIN RAISE EXCEPTION 'struck by sabotage' USING ERRCODE = '53100'; END $$",
    "40001": b"DO $$ BEGIN RAISE EXCEPTION 'struck by sabotage' USING ERRCODE = '40001'; END $$",
}
_LATER = {
    "53100": b"INSERT INTO pg_temp.sabotage VALUES ('53100')",
    "40001": b"INSERT INTO pg_temp.sabotage VALUES ('40001')",
}
_CUT = "SELECT pg_terminate_backend(%s, 10000)"


class Blow(StrEnum):
    """Ways to strike. The values of the last two are what Postgres calls them."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"  # the server did it; the client never learns
    CUT = "cut"
    DISK_FULL = "53100"
    SERIALIZATION = "40001"

    @property
    def is_kill(self) -> bool:
        """Whether the process is gone."""
        return self in (Blow.KILLED_BEFORE, Blow.KILLED_AFTER)


@dataclass(frozen=True, slots=True)
class Plan:
    """To strike like this at the round trip of this number, from 1."""

    blow: Blow
    at: int

    @classmethod
    def by_chance(cls, rng: Random, longest: int = 90) -> "Plan":
        """Any blow, early ones as often as late ones."""
        return cls(rng.choice(list(Blow)), rng.randint(1, rng.choice([12, 30, longest])))


class Killed(BaseException):
    """The process is dead: nothing that the pipeline catches."""


class Fragile(psycopg.Connection[tuple[object, ...]]):
    """A connection that counts its round trips and is struck at one of them. `struck` says whether it was."""

    plan: Plan | None = None
    trips: int = 0
    struck: bool = False

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """One round trip, or what happens instead."""
        self.trips += 1
        plan = self.plan
        if plan is None or self.struck or self.trips < plan.at or not self._can_strike(plan.blow, gen):
            return super().wait(gen, *args, **kwargs)
        self.struck = True
        go_on: Callable[[], Any] = partial(super().wait, gen, *args, **kwargs)
        if plan.blow.is_kill:
            return self._die(go_on if plan.blow is Blow.KILLED_AFTER else None)
        if plan.blow is Blow.CUT:
            return self._cut(go_on)
        return self._refuse(plan.blow, gen, go_on)

    def _can_strike(self, blow: Blow, gen: Any) -> bool:
        """An error can be had of Postgres only where it takes a statement. To enter a pipeline is no round trip."""
        if gen.__qualname__ == "BasePipeline._enter_gen":
            return False
        is_free = self.pgconn.transaction_status in (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS)
        return blow.is_kill or blow is Blow.CUT or (is_free and self.pgconn.pipeline_status == pq.PipelineStatus.OFF)

    def _die(self, last: Callable[[], Any] | None) -> Any:
        if last is not None:
            last()
        self.pgconn.finish()
        raise Killed

    def _cut(self, go_on: Callable[[], Any]) -> Any:
        with psycopg.connect(self.info.dsn, password=self.info.password, autocommit=True) as other:
            other.execute(_CUT, (self.info.backend_pid,))
        return go_on()

    def _refuse(self, blow: Blow, gen: Any, go_on: Callable[[], Any]) -> Any:
        in_transaction = self.pgconn.transaction_status == pq.TransactionStatus.INTRANS
        if in_transaction and gen.__qualname__.endswith("_exit_gen"):
            self.pgconn.exec_(_LATER[blow])
            return go_on()
        result = self.pgconn.exec_(_RAISE[blow])
        raise errors.lookup(blow)(info=result, encoding="utf-8")


def connect(url: str, plan: Plan | None = None) -> Fragile:
    """A connection as the program makes it, to be struck as planned."""
    db = connection.connect_as(Fragile, url)
    if plan is not None and not (plan.blow.is_kill or plan.blow is Blow.CUT):
        db.execute(_ARM)
    db.trips, db.plan = 0, plan
    return db
