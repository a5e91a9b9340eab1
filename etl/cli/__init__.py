"""The command line: reads the clock and the environment once, builds, calls, prints, and exits with a code.

Modules are imported by the commands that need them, and as late as they are needed: a sync that runs each minute pays
for every import each minute, and one that finds its source held shall not pay for an HTTP client.

    main             the group of commands: what goes wrong in one becomes a line and an exit code
    commands         the commands
    options          options that several commands have
    context          what commands are built of: settings, clock, log, database, client; a run
    metrics_options  --metrics-file, --metrics-port
    shell_complete   completion of the names of sources and reports
    setup_wizard     the questions of `init`, and the test of each answer
"""

import sys

# Where click and rich are installed, as here, httpx loads a command line of its own: 0.2 s of every run, for nothing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

from etl.cli.commands import (  # noqa: E402, F401 - each adds its commands to `main`
    admin,
    completions,
    database,
    documents,
    init,
    jobs,
    reporting,
    simulate,
    sources,
    sync,
    testing,
    worker,
)
from etl.cli.main import EXIT_CODES, main  # noqa: E402

__all__ = ["EXIT_CODES", "main"]
