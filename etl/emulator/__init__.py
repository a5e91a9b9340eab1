"""A pretend AIMS360 for the demo and the tests: a world of jobs, its own reading of OData, a WSGI app, a server.

    world = populated(5000, seed=1)
    with serve(Emulator(world)) as server: ...          # on a socket
    httpx.WSGITransport(app=Emulator(World()))          # in-process

It imports nothing else of `etl`, so that a mistake shared with the client can't cancel out. Inside:

    world      the database as it lives: commits, reruns, purges, restores, by a clock that is a value
    job        a row, and how each generation of the API shows it; edit makes and changes one
    catalogue  what kinds of job there are, whose they are, how their lives go; populate makes a month of them
    table      the committed rows, in the orders that order keeps; ticks are the database's times
    query      what an OData query says (reading: its words); find does what it says
    app        the service (WSGI): calls are its requests, answers its responses, tokens who may ask, outputs the files
    faults     what goes wrong; server puts it all on a socket
    fleet      many accounts in two regions, told by who signs in: tenants are who there is, an account is one as it
               lives, allowance its limit; steering looks into them, configured makes their aims360.toml
"""

from etl.emulator.app import CREDENTIALS, Emulator, NextLink
from etl.emulator.calls import Request
from etl.emulator.configured import configured
from etl.emulator.faults import KINDS as FAULT_KINDS
from etl.emulator.faults import Faults
from etl.emulator.fleet import Addresses, Fleet, serve_fleet
from etl.emulator.job import ABSENT, Generation, Job
from etl.emulator.populate import populated
from etl.emulator.server import Server, serve
from etl.emulator.tenants import MOODS, Mood, Tenant, tenants
from etl.emulator.ticks import Comparison
from etl.emulator.world import START, Snapshot, World

__all__ = [
    "ABSENT",
    "CREDENTIALS",
    "FAULT_KINDS",
    "MOODS",
    "START",
    "Addresses",
    "Comparison",
    "Emulator",
    "Faults",
    "Fleet",
    "Generation",
    "Job",
    "Mood",
    "NextLink",
    "Request",
    "Server",
    "Snapshot",
    "Tenant",
    "World",
    "configured",
    "populated",
    "serve",
    "serve_fleet",
    "tenants",
]
