"""What `etl.sources` holds of a service's capabilities: read whole, for one source and for all."""

from datetime import UTC, datetime

from etl.models import CAPABILITIES, Capability, Support
from etl.postgres.connection import Connection, connect
from etl.state.capabilities import find_all, list_capabilities, read_capabilities, write_capabilities
from etl.testing.emulator import populated
from tests.support.scene import Scene, a_source

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
REFUSED = Capability(Support.NO, "HTTP 400: it is not allowed", NOW, limit=3)


def test_what_is_written_is_read_and_what_nobody_knows_is_left_out() -> None:
    """A newer release may write otherwise: that counts as unknown."""
    written = write_capabilities({"largest_list": REFUSED})
    assert read_capabilities({**written, "top": {"support": "perhaps"}, "or": "yes"}) == {"largest_list": REFUSED}
    assert read_capabilities(None) == {}


def test_scripts_see_all_capabilities_the_unknown_ones_too() -> None:
    """In the order of their documentation, and one of another release after them."""
    found = list_capabilities({"largest_list": REFUSED, "by_post": Capability(Support.YES)})
    assert tuple(found) == (*CAPABILITIES, "by_post")
    assert found["top"] == {"support": "unknown", "words": "", "at": None, "limit": None}
    assert found["largest_list"] == {
        "support": "no",
        "words": "HTTP 400: it is not allowed",
        "at": "2026-03-02T09:00:00Z",
        "limit": 3,
    }


def test_how_all_sources_are_read_is_asked_for_at_once(db: Connection) -> None:
    """By their names, as the last run left them."""
    for name in ("acme", "west"):
        Scene(db, populated(5, seed=1, rate=0), a_source(name=name)).sync()
    found = find_all(db)
    assert found.keys() == {"acme", "west"}
    assert (found["acme"].paging, found["acme"].window_by) == ("key", "modifiedDate")
    assert found["acme"].capabilities["orderby"].support is Support.YES


def test_a_database_of_an_earlier_release_tells_nothing(db: Connection, empty_database: str) -> None:
    """Nor does one without our tables: sources are listed all the same."""
    Scene(db, populated(5, seed=1, rate=0)).sync()
    with db.transaction(force_rollback=True):
        db.execute("ALTER TABLE etl.sources DROP COLUMN capabilities CASCADE")
        assert find_all(db) == {}
    assert find_all(db).keys() == {"aims360"}
    with connect(empty_database) as empty:
        assert find_all(empty) == {}
