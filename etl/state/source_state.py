"""What `etl.sources` knows of a source: whose jobs it shows, how far it is mirrored, and what was learnt on the way."""

from collections.abc import Mapping, Set
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb

from etl.client import payload
from etl.config.settings import Source
from etl.errors import ConfigError
from etl.extract.restore_detection import Highest
from etl.models import CLOCK_TOLERANCE, FLATTEN_VERSION, Capability, Scan, ScanKind
from etl.postgres import pooler
from etl.postgres.connection import Connection
from etl.postgres.daily_aggregates import count_all
from etl.state.capabilities import read_capabilities, write_capabilities

_FIND = """
SELECT
    source_id, base_url, client_ids, unknown_properties, flatten_version, purge_mode, time_zone,
    watermark, complete_through, purge_asked_at, strategy, highest, went_back, doubted, reread_due_at, reconcile_due_at,
    failures, deep_failures, sign_in_failures, sign_in_not_before, sign_in_hash, paging, window_by, capabilities
FROM etl.sources
WHERE name = %s
"""
_NUMBER = "SELECT source_id FROM etl.sources WHERE name = %s"
_REGISTER = """
INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO NOTHING
"""
_HAS_TOTALS = "SELECT EXISTS (SELECT FROM aims360.purged_daily WHERE source_id = %s)"
_MOVE = "UPDATE etl.sources SET base_url = %s, time_zone = %s WHERE source_id = %s"
_LEARN = """
UPDATE etl.sources
SET client_ids = ARRAY(SELECT DISTINCT unnest(client_ids || %s::text[]) ORDER BY 1),
    unknown_properties = ARRAY(SELECT DISTINCT unnest(unknown_properties || %s::text[]) ORDER BY 1)
WHERE source_id = %s
RETURNING client_ids, unknown_properties
"""
# Only a full scan may set the watermark back: where the source was restored, or a clock was wrong.
_ADVANCE = """
UPDATE etl.sources
SET watermark = CASE WHEN %(full)s THEN coalesce(%(upper)s, watermark) ELSE greatest(watermark, %(upper)s) END,
    complete_through = CASE
        WHEN complete_through > %(as_of)s + %(tolerance)s THEN %(as_of)s
        ELSE greatest(complete_through, %(as_of)s)
    END,
    flatten_version = CASE WHEN %(rewrite)s THEN %(flatten_version)s ELSE flatten_version END
WHERE source_id = %(source_id)s
RETURNING watermark, complete_through, flatten_version
"""
_DOUBT = "UPDATE etl.sources SET doubted = %s WHERE source_id = %s"
_WENT_BACK = "UPDATE etl.sources SET went_back = %s WHERE source_id = %s"
_REMEMBER_HIGHEST = "UPDATE etl.sources SET highest = %s WHERE source_id = %s"
_WRITTEN_ANEW = "UPDATE etl.sources SET flatten_version = %s WHERE source_id = %s"
_REMEMBER_PAGING = "UPDATE etl.sources SET strategy = %s, paging = %s, window_by = %s WHERE source_id = %s"
_REMEMBER_CAPABILITIES = "UPDATE etl.sources SET capabilities = %s WHERE source_id = %s"
_REREAD_DUE = "UPDATE etl.sources SET reread_due_at = %s WHERE source_id = %s"
_RECONCILE_DUE = "UPDATE etl.sources SET reconcile_due_at = %s WHERE source_id = %s"
_REMEMBER_MODE = "UPDATE etl.sources SET purge_mode = %s WHERE source_id = %s"
_ASKED = "UPDATE etl.sources SET purge_asked_at = %s WHERE source_id = %s"


class State(NamedTuple):
    """A row of `etl.sources`. Client ids are in lower case."""

    source_id: int
    base_url: str
    client_ids: list[str]
    unknown_properties: list[str]
    flatten_version: int
    purge_mode: str
    time_zone: str
    watermark: datetime | None
    complete_through: datetime | None
    purge_asked_at: datetime | None
    strategy: str
    highest: Highest
    went_back: str | None
    doubted: datetime | None
    reread_due_at: datetime | None
    reconcile_due_at: datetime | None
    failures: int
    deep_failures: int
    sign_in_failures: int
    sign_in_not_before: datetime | None
    sign_in_hash: str | None
    paging: str
    window_by: str
    capabilities: dict[str, Capability]


def find(db: Connection, name: str) -> State | None:
    """What is known of a source, None where it never ran."""
    row = db.execute(_FIND, (name,)).fetchone()
    return None if row is None else State._make((*row[:-1], read_capabilities(row[-1])))


def register(db: Connection, source: Source) -> int:
    """The number of a source, which has its row from now on. Raises ConfigError where nothing may be written."""
    # Looked for first: an INSERT that meets a conflict would use up a number of the smallint key each time.
    row = db.execute(_NUMBER, (source.name,)).fetchone()
    if row is None:
        pooler.require(db)
        db.execute(_REGISTER, (source.name, source.base_url, FLATTEN_VERSION, source.purge, source.time_zone))
        row = db.execute(_NUMBER, (source.name,)).fetchone()
        assert row is not None
    return int(str(row[0]))


def judge_time_zone(db: Connection, state: State, source: Source) -> None:
    """Raises ConfigError where days were already counted in another time zone: a job would count on two of them."""
    if state.time_zone == source.time_zone:
        return
    row = db.execute(_HAS_TOTALS, (state.source_id,)).fetchone()
    if row and row[0]:
        raise ConfigError(
            f"AIMS360_TIME_ZONE: is {source.time_zone}, but days were already counted in {state.time_zone} for jobs "
            f"that are purged since; set AIMS360_TIME_ZONE={state.time_zone}"
        )


def judge_client(state: State, source: Source, client: object) -> None:
    """Raises ConfigError where the newest row is another client's than all that were seen: another account's jobs."""
    known = {_plain(each) for each in state.client_ids} - {""}
    if isinstance(client, str) and known and _plain(payload.storable(client)) not in {*known, ""}:
        stranger = payload.storable(client)[:60]
        raise ConfigError(
            f"source {source.name!r} now shows the jobs of client {stranger}, never seen before (seen: "
            f"{', '.join(sorted(known)[:3])}). Another account needs a source of its own: a table [sources.NAME] in "
            "aims360.toml. If this source truly moved, run once with --same-source"
        )


def _plain(client: str) -> str:
    """Return a client id without what other serializers write around it; nothing for one that says nothing."""
    plain = client.strip().strip("{}").lower()
    return "" if not plain.strip("0-") else plain


def follow_settings(db: Connection, state: State, source: Source) -> State:
    """The source's address and time zone as they are set now."""
    if (state.base_url, state.time_zone) == (source.base_url, source.time_zone):
        return state
    with db.transaction():
        db.execute(_MOVE, (source.base_url, source.time_zone, state.source_id))
        if state.time_zone != source.time_zone:
            count_all(db, state.source_id)
    return state._replace(base_url=source.base_url, time_zone=source.time_zone)


def learn(db: Connection, state: State, clients: Set[str], unknown: Set[str]) -> State:
    """Client ids (lower case) and unknown properties that rows showed."""
    if clients <= set(state.client_ids) and unknown <= set(state.unknown_properties):
        return state
    row = db.execute(_LEARN, (sorted(clients), sorted(unknown), state.source_id)).fetchone()
    assert row is not None
    return state._replace(client_ids=_texts(row[0]), unknown_properties=_texts(row[1]))


def advance(db: Connection, state: State, scan: Scan) -> State:
    """Move watermark and complete_through over a scan that came to its end.

    complete_through falls only where a clock was wrong.
    """
    given = {
        "full": scan.kind is ScanKind.FULL,
        "upper": scan.window.upper,
        "as_of": scan.window.as_of,
        "tolerance": CLOCK_TOLERANCE,
        "rewrite": scan.rewrite,
        "flatten_version": scan.flatten_version,
        "source_id": state.source_id,
    }
    row = db.execute(_ADVANCE, given).fetchone()
    assert row is not None
    watermark, complete_through, flatten_version = row
    return state._replace(
        watermark=_moment(watermark),
        complete_through=_moment(complete_through),
        flatten_version=int(str(flatten_version)),
    )


def remember_purge_mode(db: Connection, state: State, mode: str) -> State:
    """What purges do from now on."""
    db.execute(_REMEMBER_MODE, (mode, state.source_id))
    return state._replace(purge_mode=mode)


def written_anew(db: Connection, state: State, scan: Scan) -> State:
    """All rows were written by a program of the scan's version."""
    db.execute(_WRITTEN_ANEW, (scan.flatten_version, state.source_id))
    return state._replace(flatten_version=scan.flatten_version)


def remember_paging(db: Connection, state: State, strategy: str, paging: str, window_by: str) -> State:
    """Store how the last scan asked for its rows."""
    if (state.strategy, state.paging, state.window_by) == (strategy, paging, window_by):
        return state
    db.execute(_REMEMBER_PAGING, (strategy, paging, window_by, state.source_id))
    return state._replace(strategy=strategy, paging=paging, window_by=window_by)


def remember_capabilities(db: Connection, state: State, known: Mapping[str, Capability]) -> State:
    """Store what the service is known to support."""
    if known == state.capabilities:
        return state
    db.execute(_REMEMBER_CAPABILITIES, (Jsonb(write_capabilities(known)), state.source_id))
    return state._replace(capabilities=dict(known))


def remember_went_back(db: Connection, state: State, told: str | None) -> State:
    """What told that the source went back to an earlier state, until that is followed; None: it is."""
    if state.went_back == told:
        return state
    db.execute(_WENT_BACK, (told, state.source_id))
    return state._replace(went_back=told)


def remember_doubt(db: Connection, state: State, newest: datetime | None) -> State:
    """The newest row of all is older than the watermark, and tells of no restore; None: it isn't."""
    if state.doubted == newest:
        return state
    db.execute(_DOUBT, (newest, state.source_id))
    return state._replace(doubted=newest)


def raise_highest(db: Connection, state: State, highest: Highest) -> State:
    """The highest rowversion seen in each database."""
    if highest == state.highest:
        return state
    db.execute(_REMEMBER_HIGHEST, (Jsonb(highest), state.source_id))
    return state._replace(highest=highest)


def reread_is_due(db: Connection, state: State, due: datetime | None) -> State:
    """When the last days are read again; None: with the next run."""
    db.execute(_REREAD_DUE, (due, state.source_id))
    return state._replace(reread_due_at=due)


def reconcile_is_due(db: Connection, state: State, due: datetime | None) -> State:
    """When all keys are compared again; None: with the next run."""
    db.execute(_RECONCILE_DUE, (due, state.source_id))
    return state._replace(reconcile_due_at=due)


def asked_about_purge(db: Connection, state: State, as_of: datetime) -> State:
    """The source was asked about jobs past their purge date."""
    db.execute(_ASKED, (as_of, state.source_id))
    return state._replace(purge_asked_at=as_of)


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return value
