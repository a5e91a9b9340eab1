"""The command line: reads the clock and the environment once, builds, calls, prints, and exits with a code.

Rooms are imported by the commands that need them, and as late as they are needed: a sync that runs each minute pays for
every import each minute, and one that finds its source held shall not pay for an HTTP client.

    program    the group of commands: what goes wrong in one becomes a line and an exit code
    options    options that several commands have
    wiring     what commands are built of: settings, clock, log, database, service
    init       init
    running    a run as commands make it
    serving    sync --every
    all_sources  sync --all
    telling    what commands tell Prometheus
    mirror     migrate, sync, purge, reconcile
    fleet      worker
    reading    status, report
    sources    sources list, add, check, disable, enable, remove
    jobs       jobs list, show, wait, rerun, export
    documents  documents fetch
    access     grant, erase, doctor
    pretend    demo, prove, emulator
    simulating  simulate
    postgres   db start, stop, url
    completions  completions, whose words `offered` has
"""

import sys

# Where click and rich are installed, as here, httpx loads a command line of its own: 0.2 s of every run, for nothing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

# In the order that --help shows them.
from etl.cli import init, mirror, fleet, reading, sources, jobs, documents, access  # noqa: E402, F401, I001
from etl.cli import pretend, simulating, postgres, completions  # noqa: E402, F401
from etl.cli.program import EXIT_CODES, main  # noqa: E402

__all__ = ["EXIT_CODES", "main"]
