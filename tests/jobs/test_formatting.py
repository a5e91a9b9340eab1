"""What people read of jobs: tables that fit, cards that are complete, and nothing that steers a terminal."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len

from etl.jobs import formatting
from etl.jobs.live import Difference, Live, differences
from etl.jobs.mirror_query import Found, Held
from etl.postgres.connection import Row
from etl.testing.emulator import World
from etl.transform.flatten import flatten

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def a_live(**fields: Any) -> Live:
    """A job as the source shows it."""
    world = World(seed=1)
    [job] = flatten([world.add(**fields).rendered()]).jobs
    return Live(job, NOW)


def a_listed(number: int, **fields: Any) -> Row:
    """A job as a list has it."""
    return {
        "job_id": f"{number:08d}-1111-4111-a111-111111111111-20260302090000000",
        "source": "aims360",
        "created_at_utc": NOW,
        "job_status": "Completed",
        "percent_completed": 100,
        "queued_seconds": Decimal("2.3"),
        "run_seconds": Decimal(75),
        "documents": 2,
        "account_code": "AZ022",
        "category_name": "Exports",
        "sub_category_name": "送り状をエクスポートしました、とても長い名前のレポート",
        **fields,
    }


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_a_list_fits_the_terminal(width: int) -> None:
    """Whatever its width, and however wide the letters: no line is longer; the id is there in any case."""
    said = formatting.listing([a_listed(1), a_listed(2, source="east")], width)
    assert max(map(cell_len, said.splitlines())) <= width
    assert ("00000001" in said) or width == 20


def test_a_list_in_a_pipe_is_whole() -> None:
    """Nothing is shortened or left out."""
    said = formatting.listing([a_listed(1)], None)
    for part in (
        "00000001-1111-4111-a111-111111111111-20260302090000000",
        "1 min 15 s",
        "AZ022",
        "とても長い名前のレポート",
    ):
        assert part in said


def test_columns_that_say_nothing_are_left_out() -> None:
    """One source has no column; nor have percentages that nobody knows."""
    said = formatting.listing([a_listed(1, percent_completed=None)], None)
    assert "source" not in said
    assert "%" not in said
    assert "source" in formatting.listing([a_listed(1), a_listed(2, source="east")], None)


def test_what_would_steer_the_terminal_is_not_shown() -> None:
    """Control characters, marks of direction, lone surrogates: a space."""
    said = formatting.listing([a_listed(1, sub_category_name="two\nlines\x1b[2J")], None)
    assert len(said.splitlines()) == 2
    assert "\x1b" not in formatting.card_of(a_live(jobStatusText="\x1b[2J\nmore"), "aims360")


def test_a_card_without_a_job_tells_what_is_left() -> None:
    """The tombstone, and documents that were fetched."""
    tombstone: Row = {
        "purged_at": NOW,
        "reason": "missing_at_source",
        "account_code": "AZ022",
        "category_name": "Reports",
        "sub_category_name": None,
        "job_status": "Failed",
        "queued_seconds": None,
        "run_seconds": Decimal(5),
    }
    archived: Row = {"path": "/kept/a.pdf", "bytes": 5, "fetched_at": NOW}
    said = formatting.card(
        Found("aims360", "job-1", is_here=False), Held(None, [], [], [], tombstone, [archived], None)
    )
    assert "purged here 2026-03-02 09:00:00 UTC: the source had it no more" in said
    assert "waited unknown, ran 5 s" in said
    assert "/kept/a.pdf, 5 bytes, fetched 2026-03-02 09:00:00 UTC" in said


def test_a_row_that_cannot_be_read_is_described_without_a_job() -> None:
    """Why, between which keys if its own is unknown, since when, and when the source is asked for it next."""
    reject: Row = {
        "reason": "the source can't serve it",
        "first_seen_at": NOW,
        "asked_at": None,
        "times_asked": 0,
        "runs_to_wait": 1,
        "key_name": "ID",
        "key_after": "17",
        "key_before": "19",
    }
    found, nothing = Found("aims360", "sha256:00", is_here=False), Held(None, [], [], [], None, None, None)
    said = formatting.card(found, nothing._replace(reject=reject)).splitlines()
    assert said[:2] == [
        "sha256:00, source aims360",
        "  the source's row could not be read, and waits in etl.rejects",
    ]
    assert [line.split(maxsplit=1) for line in said[2:4]] == [
        ["why", "the source can't serve it"],
        ["place", "ID after 17 and before 19"],
    ]
    assert said[-1].split() == ["asked", "for", "again", "by", "the", "next", "run"]
    assert "place                 ID after 17\n" in formatting.card(
        found, nothing._replace(reject=reject | {"key_before": None})
    )


@pytest.mark.parametrize(
    ("job_id", "fields", "said"),
    [
        ("a-job", {}, "by the next run"),
        ("a-job", {"runs_to_wait": 0}, "by the next run"),
        (
            "a-job",
            {"times_asked": 1, "asked_at": NOW, "runs_to_wait": 2},
            "in 2 runs; asked once so far, last 2026-03-02 09:00:00 UTC",
        ),
        (
            "a-job",
            {"times_asked": 4, "asked_at": NOW, "runs_to_wait": 0},
            "by the first run after 2026-03-03 09:00:00 UTC; asked 4 times so far, last 2026-03-02 09:00:00 UTC",
        ),
        ("ID:17", {"key_name": "ID", "key_after": "16"}, "by the next run"),
        ("sha256:00", {}, "never, since its key is unknown: it leaves with its purge date, or after 30 days"),
    ],
)
def test_a_row_that_cannot_be_read_says_when_it_is_asked_for(job_id: str, fields: dict[str, Any], said: str) -> None:
    """After some runs at first, then daily; what has no key can't be asked for."""
    reject: Row = {
        "reason": "createdDate is no date",
        "first_seen_at": NOW,
        "asked_at": None,
        "times_asked": 0,
        "runs_to_wait": 1,
        "key_name": None,
        "key_after": None,
        "key_before": None,
        **fields,
    }
    card = formatting.card(Found("aims360", job_id, is_here=False), Held(None, [], [], [], None, None, None, reject))
    assert card.splitlines()[-1] == f"  {'asked for again':<22}{said}"


def test_links_are_shown_where_they_were_asked_for() -> None:
    """None is an answer too."""
    found = Found("aims360", "job-1")
    assert "links" not in formatting.card(found, Held(None, [], [], [], None, None, None))
    assert formatting.card(found, Held(None, [], [], [], None, None, [])).endswith("\n  none")


def test_a_card_has_no_link_of_what_the_source_shows() -> None:
    """Asked at the source, too."""
    live = a_live(publishLink="https://files.example/secret", requestURL="https://files.example/secret")
    assert "files.example" not in formatting.card_of(live, "aims360")


def test_differences_name_both_sides() -> None:
    """The mirror's word and the source's; equal is said, and so is a job that the mirror doesn't hold."""
    live = a_live(jobStatus="Queued", percentCompleted=0)
    assert "the mirror doesn't hold the job" in formatting.compared(live, None)
    assert "the mirror holds it as it is" in formatting.compared(live, [])
    said = formatting.compared(
        live, [Difference("job_status", "Completed", "Queued"), Difference("modified_at_utc", None, NOW)]
    )
    assert "job_status: Completed here, Queued there" in said
    assert "modified_at_utc: nothing here, 2026-03-02 09:00:00 UTC there" in said
    assert [found.what for found in differences(live, {"job_id": live.row.job_id}, [])][:1] == ["account_code"]
