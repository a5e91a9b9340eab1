"""How many rows a page of a scan is asked for: half as many where the service can't serve them, later more again."""

from __future__ import annotations

from etl.models import USUAL_PAGE, Scan

OFFER = 250  # rows that a scan of all rows offers to take a page; the service may ignore that
_GROW_AFTER = 10  # good pages for a page of twice as many rows; doubled whenever that was too much
_SLOWEST_GROWTH = 640


class PageSize:
    """The size of a scan's pages. Its owner's lock guards it.

    `rows`: asked for per page; None: as many as the service sends, `usual` ones. `is_narrowed`: each page also asks for
    a key range of about so many rows.
    """

    def __init__(self, scan: Scan, most: int | None) -> None:
        self.rows, self.is_narrowed = scan.page_size or most, scan.narrowed
        self.usual = USUAL_PAGE
        self._most = most
        self._good, self._grow_after = 0, _GROW_AFTER
        self._has_served = True  # since the last time that less was asked for
        self._has_grown = False

    @property
    def stored(self) -> int | None:
        """What is kept with the open scan: nothing where it is as set."""
        return None if self.rows == self._most else self.rows

    def heed(self, asked: int | None, came: int, *, may_grow: bool) -> None:
        """Take in a good page of so many rows: after some, twice as many are asked for."""
        self._has_served = True
        if asked is None:
            self.usual = max(self.usual, came)
        elif may_grow:
            self._grow()

    def shrink(self, asked: int | None, offer: int | None) -> None:
        """Ask for half the rows from now on; for key ranges too, where that was tried before: sizes may be ignored."""
        if asked is not None and self.rows == asked:
            self.is_narrowed = True
        rows = asked or max(self.usual, offer or 0)
        self.rows = max(1, min(self.rows or rows, rows // 2))
        if self._has_served:  # else it is the same storm
            self._grow_after = min(2 * self._grow_after, _SLOWEST_GROWTH)
        self._good, self._has_served, self._has_grown = 0, False, False

    def set(self, rows: int) -> None:
        """Ask for so many rows, the largest page that came when more were too many."""
        self.rows, self._good = rows, 0
        self._grow_after = min(2 * self._grow_after, _SLOWEST_GROWTH)

    def narrow(self) -> None:
        """Ask for key ranges, since the service doesn't heed how many rows are asked for."""
        self.is_narrowed, self.rows = True, max(1, self.usual // 2)

    def _grow(self) -> None:
        self._good += 1
        if self.rows is None or self._good < self._grow_after:
            return
        self._good = 0
        self.rows *= 2
        if self._has_grown:
            self._grow_after = max(_GROW_AFTER, self._grow_after // 2)
        self._has_grown = True
        if self.rows >= (self._most or self.usual):
            self.rows, self.is_narrowed = self._most, False
