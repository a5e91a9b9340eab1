"""What of a scan's pages is to be written: for rows whose very version is here nothing is built.

Reading ahead, a page is only looked at for its versions, and Postgres says which of them differ; the rows of those are
flattened then. Where most rows are new or changed, as in a first scan, that would only be a detour: they are flattened,
and encoded for COPY, ahead of the loading. Which of the two it is follows from the pages before.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from msgspec.structs import replace

from etl.load import version_filter
from etl.load.upsert import encoded_ahead
from etl.load.version_filter import Told
from etl.models import Batch, Counts, Page, Scan
from etl.pipeline.run_context import Recorder
from etl.transform.flatten import flatten

Read = Batch | Told


class Changes:
    """What of the pages of one scan is to be written, as far as can be told ahead."""

    def __init__(self, run: Recorder, scan: Scan) -> None:
        self._run = run
        self._is_rewrite = scan.rewrite
        self._not_seen_before = run.state.complete_through
        self._most_are_new = self._most_are_written = run.state.watermark is None
        self._before = run.counts

    def read(self, page: Page) -> Read:
        """A page's rows, or only their versions. Any thread may call it: what the pages before told is a guess."""
        if not (self._most_are_written or self._is_rewrite or page.rejects) and (
            told := version_filter.told(page.rows, page.answered_at)
        ):
            return told
        batch = with_rejects(flatten(page.rows, page.replaced_characters), page)
        if not self._most_are_new:
            return batch
        return encoded_ahead(self._run.db, self._run.source_id, batch, page.answered_at, self._not_seen_before)

    def batches(self, some: Sequence[tuple[Page, Read]]) -> list[tuple[Page, Batch]]:
        """The pages as batches, in the transaction that loads them."""
        told = [read for _, read in some if isinstance(read, Told)]
        job_ids = (
            version_filter.differing(
                self._run.db, self._run.source_id, version_filter.joined(told), is_unread=self._run.waiting.unread
            )
            if told
            else set()
        )
        return [(page, self._batch(page, read, job_ids) if isinstance(read, Told) else read) for page, read in some]

    def _batch(self, page: Page, told: Told, differing: Set[str]) -> Batch:
        """Where rejects wait, all rows are looked at: one may have been mended by going back to what is here."""
        rows = page.rows if self._run.has_rejects else version_filter.rows_of(differing, page, told)
        return replace(flatten(rows, page.replaced_characters), same=len(page.rows) - len(rows))

    def heed(self, some: Sequence[tuple[Page, Read]]) -> None:
        """What became of these pages, now that they are loaded, is what is expected of the next."""
        counts: Counts = self._run.counts
        if rows := sum(len(page.rows) for page, _ in some):
            self._most_are_new = 2 * (counts.inserted - self._before.inserted) > rows
            self._most_are_written = 2 * (counts.written - self._before.written) > rows
        self._before = counts


def with_rejects(batch: Batch, page: Page) -> Batch:
    """Return the batch with the records of its page that the service can't serve."""
    return replace(batch, rejects=(*batch.rejects, *page.rejects)) if page.rejects else batch
