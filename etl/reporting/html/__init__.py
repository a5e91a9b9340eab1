"""The page: one HTML file that says how fresh the mirror is, how the jobs go, and what is coming.

It stands alone: charts are drawn here, into the file, so there is no script, no font and no picture to fetch, and its
own security policy forbids it. A mail program or a phone's preview shows what a browser shows.

    queries             what is asked of the mirror: the SQL of sql/page/
    sections            answers to content: what stands where
    template            content to HTML
    job_figures         figures about jobs
    operations_figures  figures about what expires, and about runs
    figure              a chart before it is drawn
    charts              the shapes of charts
    svg                 a chart as SVG
    formatting          numbers, durations and health in words
"""

from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from etl import atomic_files
from etl.errors import ConfigError
from etl.reporting.html import queries, template

_NEEDED = ("altair", "vl_convert")


def write(url: str, path: Path, now: datetime, with_people: bool = False) -> Path:
    """Writes the page about the mirror at `url`, as of `now`, all or nothing, and gives its path.

    Nobody is named on it unless `with_people`. Raises ConfigError where the extra `report` isn't installed or the file
    can't be written, DatabaseError where the mirror can't be read.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise ConfigError('the page needs Altair and its renderer: pip install "aims360-etl[report]"')
    from etl.reporting.html import sections  # pandas and Altair take half a second each to load

    answers = queries.ask(url, with_people)
    text = template.page(now, sections.of(answers, now))
    atomic_files.save(path, text.encode())
    return path
