"""A fleet measured for real: `aims360-etl simulate`.

Postgres is the embedded one, with a database of its own; the source is the emulator's fleet, workers are
`aims360-etl worker`, each a process of its own.

    course     what happens in which order: a first pass, phases, the quiet end
    stage      what takes part: the database, the fleet, the workers; processes starts and kills them
    wheel      the fleet, steered and looked into
    freshness  how old mirrors are, and what that is over sources and samples
    spent      the seconds of CPU that processes used
    verdict    what is checked at the end: no two runs of a source at once, mirrors equal
    show       what people read of it
"""
