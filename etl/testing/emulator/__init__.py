"""A pretend AIMS360 for the demo and the tests: a world of jobs, its own reading of OData, a WSGI app, a server.

    world = populated(5000, seed=1)
    with serve(Emulator(world)) as server: ...          # on a socket
    httpx.WSGITransport(app=Emulator(World()))          # in-process

It imports nothing else of `etl`, so that a mistake shared with the client can't cancel out. Inside:

    app               the service (WSGI)
    server            it on a socket, with faults of the wire
    service_options   its habits, as far as the real ones are unknown
    option_texts      these as text
    requests          its requests, parsed
    responses         its answers
    oauth             the password grant
    collection        the answer to a query
    single_jobs       one job, and its rerun
    document_content  the bytes of documents
    faults            what goes wrong over HTTP
    in_flight         the limit of concurrent requests
    compression       gzip
    odata_parser      what an OData query says
    odata_query       a parsed query
    refusals          what isn't allowed in it
    query_executor    does what it says
    ordering          in which order rows come
    paging            page sizes and nextLinks
    skip_tokens       where the next page begins
    value_forms       values in other forms than the documented ones
    drift             properties in another JSON form
    spoilt_rows       rows that aren't JSON
    property_readers  the values of properties, for filters and sorting
    world             the database as it lives: commits, reruns, purges, restores, by a clock that is a value
    job_version       one version of a row, and how each generation of the API shows it
    job_edits         make a row, and its next versions
    table             the committed rows
    sorted_index      an index of the table
    sql_datetime      times as SQL Server stores them
    sample_data       invented kinds of jobs, accounts and people
    populate          a month of jobs at once
    fleet             many accounts in two regions, told apart by who signs in
    account           one account, as it lives
    tenants           random accounts
    rate_limiter      an account's limit
    admin_api         look into a fleet, and steer it
    fleet_config      aims360.toml for a fleet
"""

from etl.testing.emulator.app import CREDENTIALS, Emulator, NextLink
from etl.testing.emulator.drift import Drift
from etl.testing.emulator.faults import ALL_KINDS as ALL_FAULT_KINDS
from etl.testing.emulator.faults import KINDS as FAULT_KINDS
from etl.testing.emulator.faults import SIGN_IN_KINDS, Faults
from etl.testing.emulator.fleet import Addresses, Fleet, serve_fleet
from etl.testing.emulator.fleet_config import configured
from etl.testing.emulator.job_version import ABSENT, Generation, Job
from etl.testing.emulator.option_texts import list_service_options, read_service_options
from etl.testing.emulator.populate import populated
from etl.testing.emulator.requests import Request
from etl.testing.emulator.server import Server, serve
from etl.testing.emulator.service_options import ServiceOptions, list_option_choices
from etl.testing.emulator.spoilt_rows import Spoilt
from etl.testing.emulator.sql_datetime import Comparison
from etl.testing.emulator.tenants import MOODS, Mood, Tenant, tenants
from etl.testing.emulator.world import START, Snapshot, World

__all__ = [
    "ABSENT",
    "ALL_FAULT_KINDS",
    "CREDENTIALS",
    "FAULT_KINDS",
    "MOODS",
    "SIGN_IN_KINDS",
    "START",
    "Addresses",
    "Comparison",
    "Drift",
    "Emulator",
    "Faults",
    "Fleet",
    "Generation",
    "Job",
    "Mood",
    "NextLink",
    "Request",
    "Server",
    "ServiceOptions",
    "Snapshot",
    "Spoilt",
    "Tenant",
    "World",
    "configured",
    "list_option_choices",
    "list_service_options",
    "populated",
    "read_service_options",
    "serve",
    "serve_fleet",
    "tenants",
]
