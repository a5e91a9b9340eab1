"""`make bench`: what the commands cost as whole processes, against floors measured in the same run.

    service    a still AIMS360 in a process of its own (`python -m tests.bench.service`), told what to do by lines
    gate       its throttle: which requests are turned away, and which come though they were told to wait
    source     that process as the bench sees it; all its pages, read one after another
    databases  an embedded Postgres with a database for each piece of work; what was written there
    mirror     a database and its source, filled
    measure    a command as a whole process: its time and its peak memory
    floors     the least that it can cost: rows copied that are encoded already, packages imported
    byhand     the same for purges and changes: statements for which the keys are known
    asked      what BI tools ask of the views (pure)
    backfill, quiet, sweep, start, reading     the work
    stage      how much of it, how often, and the figures as they come
    table      figures, ratios, verdicts; the table and the JSON (pure)

`SCALE=0.05` makes everything smaller, `RUNS=1` repeats less, `BENCH_JSON` is where the figures go. Nothing here is
about being right: that is for the tests.
"""
