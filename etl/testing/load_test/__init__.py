"""A fleet measured for real: `aims360-etl simulate`.

Postgres is the embedded one, with a database of its own; the source is the emulator's fleet, workers are
`aims360-etl worker`, each a process of its own.

    runner           what happens in which order: a first pass, phases, the quiet end
    environment      what takes part: the database, the fleet, the workers
    processes        subprocesses: start and kill them
    emulator_client  the HTTP client of the emulator's control API
    freshness        percentiles of how old the mirrors are
    cpu_time         the seconds of CPU that processes used
    checks           what is checked at the end: no two runs of a source at once, mirrors equal
    report           the result for people and as JSON
"""
