"""Refused credentials are paused for a while, in every run on every machine: accounts get locked otherwise.

What was refused is known by a salted hash alone: changed credentials are tried at once.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta

from etl.client import odata
from etl.config.secrets import PasswordGrant
from etl.config.settings import Source
from etl.errors import CredentialsRefused, DatabaseError
from etl.models import Clock
from etl.postgres.connection import Connection
from etl.state import source_state
from etl.state.source_state import State
from etl.text import utc

Reach = Callable[[], AbstractContextManager[Connection | None]]

_LONGEST = timedelta(minutes=30)
_SALT = 16  # bytes
_ROUNDS = 100_000  # of the hash: some 50 ms, and only where credentials were refused
_MOST_REFUSALS = 20  # of one service, that are looked through for the same credentials
_HELD_ELSEWHERE = """
SELECT sign_in_hash, sign_in_not_before
FROM etl.sources
WHERE base_url = %s AND source_id <> %s AND sign_in_not_before > %s AND sign_in_not_before <= %s
ORDER BY sign_in_not_before DESC
LIMIT %s
"""
_REFUSED = """
UPDATE etl.sources
SET sign_in_failures = %s, sign_in_not_before = %s, sign_in_hash = %s
WHERE source_id = %s
"""


def check_sign_in(db: Connection, state: State, source: Source, now: datetime) -> None:
    """Raise CredentialsRefused where these very credentials were refused a short while ago, of whichever source."""
    if not isinstance(source.credentials, PasswordGrant):
        return
    until = state.sign_in_not_before
    if until is None or not _is_held(until, now) or not _is_same(state, source):
        until = _find_elsewhere(db, state, source.base_url, source.credentials, now)
    if until is None:
        return
    raise CredentialsRefused(
        f"source {source.name!r}: AIMS360 refused to sign in with these credentials, and is not asked again with them "
        f"before {utc(until)}, so that it doesn't lock the account; check {source.credentials_from}: changed ones are "
        "tried at once"
    )


def remember_refusal(db: Connection, state: State, source: Source, now: datetime) -> None:
    """Store that the credentials were refused: they are paused for 1, 2, 4 … 30 minutes."""
    if not isinstance(source.credentials, PasswordGrant):
        return
    until, is_same = state.sign_in_not_before, _is_same(state, source)
    if until is not None and _is_held(until, now) and is_same:
        return  # it was `check_sign_in` that raised: nobody was asked
    if _find_elsewhere(db, state, source.base_url, source.credentials, now) is not None:
        return
    failures = state.sign_in_failures + 1 if is_same else 1
    wait = min(timedelta(minutes=2 ** min(failures - 1, 10)), _LONGEST)
    known = (
        state.sign_in_hash if is_same and state.sign_in_hash else _hash(source.credentials, secrets.token_bytes(_SALT))
    )
    db.execute(_REFUSED, (failures, odata.plus(now, wait), known, state.source_id))


def forget_refusal(db: Connection, state: State) -> None:
    """Forget that credentials were refused, since signing in works."""
    if state.sign_in_failures:
        db.execute(_REFUSED, (0, None, None, state.source_id))


@contextmanager
def guard_sign_in(reach: Reach, source: Source, clock: Clock) -> Iterator[Callable[[], None]]:
    """Keep what signs in outside of a run from doing so with refused credentials. Yields what stores another refusal.

    `reach` opens the database each time it is needed; where it can't, or may not be read, nothing is known of refusals.
    Raises CredentialsRefused where these very credentials were refused a short while ago.
    """
    state: State | None = None
    can_be_refused = isinstance(source.credentials, PasswordGrant)
    with suppress(DatabaseError), reach() if can_be_refused else nullcontext() as db:
        state = None if db is None else source_state.find(db, source.name)
        if db is not None and state is not None:
            check_sign_in(db, state, source, clock.now())

    def remember() -> None:
        with suppress(DatabaseError), reach() as db:
            if db is not None and state is not None:
                remember_refusal(db, state, source, clock.now())

    try:
        yield remember
    except CredentialsRefused:
        remember()
        raise


def _find_elsewhere(
    db: Connection, state: State, base_url: str, grant: PasswordGrant, now: datetime
) -> datetime | None:
    """Return until when these credentials are paused since another source refused them, None where they aren't."""
    given = (base_url, state.source_id, now, odata.plus(now, _LONGEST), _MOST_REFUSALS)
    for known, until in db.execute(_HELD_ELSEWHERE, given).fetchall():
        if isinstance(known, str) and isinstance(until, datetime) and _matches(known, grant):
            return until
    return None


def _is_held(until: datetime, now: datetime) -> bool:
    """Whether a time that was stored is still to come; one beyond the longest pause was written by a wrong clock."""
    return now < until <= odata.plus(now, _LONGEST)


def _is_same(state: State, source: Source) -> bool:
    """Whether the stored refusal is that of these credentials."""
    if state.sign_in_hash is None or not isinstance(source.credentials, PasswordGrant):
        return False
    return _matches(state.sign_in_hash, source.credentials)


def _matches(known: str, grant: PasswordGrant) -> bool:
    salt = bytes.fromhex(known.partition("$")[0])
    return hmac.compare_digest(_hash(grant, salt), known)


def _hash(grant: PasswordGrant, salt: bytes) -> str:
    parts = (grant.client_id, grant.client_secret.reveal(), grant.username, grant.password.reveal())
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return f"{salt.hex()}${hashlib.pbkdf2_hmac('sha256', text, salt, _ROUNDS).hex()}"
