"""A pretend AIMS360 for the demo and the tests: a world of jobs, its own reading of OData, a WSGI app, a server.

    world = populated(5000, seed=1)
    with serve(Emulator(world)) as server: ...          # on a socket
    httpx.WSGITransport(app=Emulator(World()))          # in-process

It imports nothing else of `etl`, so that a mistake shared with the client can't cancel out.
"""

from etl.emulator.app import Emulator, NextLink
from etl.emulator.calls import Request
from etl.emulator.faults import KINDS as FAULT_KINDS
from etl.emulator.faults import Faults
from etl.emulator.job import ABSENT, Generation, Job
from etl.emulator.populate import populated
from etl.emulator.server import Server, serve
from etl.emulator.ticks import Comparison
from etl.emulator.world import START, Snapshot, World

__all__ = [
    "ABSENT",
    "FAULT_KINDS",
    "START",
    "Comparison",
    "Emulator",
    "Faults",
    "Generation",
    "Job",
    "NextLink",
    "Request",
    "Server",
    "Snapshot",
    "World",
    "populated",
    "serve",
]
