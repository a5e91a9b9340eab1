"""What people read of a simulation."""

from typing import Any

from msgspec import to_builtins
from rich.console import Console
from rich.table import Table

from etl.testing.load_test.runner import Phase, Simulation

_ENOUGH = 5  # sentences on what is wrong
_HEADINGS = ("workers", "p50", "p95", "p99", "max", "runs/s", "requests/s", "CPU: workers", "Postgres", "emulator")


def as_values(found: Simulation) -> dict[str, Any]:
    """All of it, for JSON."""
    values: dict[str, Any] = to_builtins(found, str_keys=True)
    for told, each in zip(values["phases"], found.phases, strict=True):
        told["ages"] = each.ages._asdict()
    return {**values, "is_good": found.verdict.is_good}


def show(found: Simulation, console: Console) -> None:
    """A line on the first pass, a row a phase, and what the check found."""
    wish, verdict = found.wish, found.verdict
    console.print(
        f"{wish.accounts:,} accounts, every {wish.every} s, {wish.latency * 1000:.0f} ms a request; "
        f"first pass: {found.rows:,} jobs in {found.first_pass:.0f} s"
    )
    table = Table(title="Seconds since a mirror was last complete, over sources and samples; CPU in cores")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for phase in found.phases:
        table.add_row(*_cells(phase))
    console.print(table)
    for number, ratio in found.ratios.items():
        console.print(f"{number} workers: with bad neighbours the others' p99 is {ratio:.2f} times that without")
    console.print(
        f"{found.kills} workers killed; at the end every source was fresh within {found.fresh_again:.0f} s; "
        f"{verdict.runs:,} runs, {len(verdict.overlaps)} of them at once with another of their source; "
        f"{verdict.compared:,} jobs compared, {len(verdict.differences)} differ"
        + (f", {verdict.waiting} past their purge date go with the next purge" if verdict.waiting else "")
    )
    for sentence in (verdict.overlaps + verdict.differences)[:_ENOUGH]:
        console.print(f"[red]{sentence}[/]")


def _cells(phase: Phase) -> tuple[str, ...]:
    cores = (phase.worker_cores, phase.postgres_cores, phase.emulator_cores)
    return (
        f"{phase.workers}{', bad neighbours' * phase.neighbours}",
        *(f"{age:.1f}" for age in phase.ages),
        f"{phase.runs / phase.seconds:.1f}",
        f"{phase.requests / phase.seconds:.0f}",
        *(f"{each:.2f}" for each in cores),
    )
