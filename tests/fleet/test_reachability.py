"""Reachability: many sources are asked side by side, and one that hangs keeps nobody waiting for ever."""

import socket
from datetime import timedelta

from etl.cli.context import clock
from etl.config.secrets import Secret
from etl.errors import OutOfTime
from etl.fleet import reachability
from etl.testing.emulator import Server
from tests.support.scene import TOKEN, a_source


def test_a_source_that_hangs_is_given_up_in_its_time(service: Server) -> None:
    """The others have answered by then; one that takes connections and never answers is told as such."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        wanted = [
            a_source(name="hangs", base_url=address),
            a_source(name="fine", base_url=service.url),
            a_source(name="refused", base_url=service.url, credentials=Secret("another")),
        ]
        found = list(reachability.each(wanted, None, clock(), timedelta(seconds=1)))
    told = {source.name: error for source, error in found}
    assert found[-1][0].name == "hangs"
    assert isinstance(told["hangs"], OutOfTime)
    assert told["fine"] is None
    assert "refuses the token" in str(told["refused"])
    assert TOKEN not in str(told)


def test_more_sources_than_are_asked_at_a_time(service: Server) -> None:
    """Each is answered for once."""
    wanted = [a_source(name=f"s{number}", base_url=service.url) for number in range(3 * reachability.AT_A_TIME)]
    found = list(reachability.each(wanted, None, clock()))
    assert sorted(source.name for source, _ in found) == sorted(source.name for source in wanted)
    assert not [error for _, error in found if error]


def test_nobody_is_asked_where_nobody_is_wanted() -> None:
    """An empty roster is no error."""
    assert list(reachability.each([], None, clock())) == []
