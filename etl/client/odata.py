"""The dialect of the source: queries, literals, keys, dates, rowversions. Pure.

Source of the rules: ASP.NET Core OData over SQL Server, as far as its payloads show (api.md, "OData behaviour").
"""

import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec

from etl.client import payload
from etl.models import Key

_SAFE = ",()':/*-._~"  # readable in a request log, and unambiguous inside a query's value
_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-\d{17}", re.ASCII)
_ETAG = re.compile(r"""(?:W/)?"([A-Za-z0-9+/=_-]+)\"""")
_URL_SAFE = str.maketrans("-_", "+/")
PREFIX = 8  # characters of a jobID that bounds of ranges have
BEYOND = "-"  # after them in a documented jobID; in what a range is named by, it tells a bound from a key
LONGEST_JOB_ID = 250  # characters; an index entry has an end, and so has an address
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_FIRST_YEAR = "1980"  # of a date; what lies before is "no date" (api.md: 0001-01-01, 1899-12-30)
FIRST_DATE = datetime(1980, 1, 1, tzinfo=UTC)


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a row stands in a scan: its keys and its date, of whatever type they came."""

    ID: object = None
    jobID: object = None
    modifiedDate: object = None

    def key(self, name: str) -> Key | None:
        """The row's key, or None where it has none of the right type."""
        if name == "ID":
            is_number = isinstance(self.ID, int) and not isinstance(self.ID, bool) and abs(self.ID) < 2**63
            return self.ID if is_number else None  # type: ignore[return-value]
        return self.jobID if isinstance(self.jobID, str) and 0 < len(self.jobID) <= LONGEST_JOB_ID else None

    @property
    def modified(self) -> datetime | None:
        """modifiedDate, or None where it is null or unreadable."""
        return readable_instant(self.modifiedDate)


class Stamp(Place, frozen=True):
    """What else steers a run, likewise."""

    createdDate: object = None
    purgeDateTime: object = None
    clientID: object = None
    rowversion: object = None
    odata_etag: object = msgspec.field(default=None, name="@odata.etag")
    plain_etag: object = msgspec.field(default=None, name="@etag")  # its name in OData 4.01

    @property
    def etag(self) -> object:
        """The row's etag, of whatever type it came."""
        return self.plain_etag if self.odata_etag is None else self.odata_etag

    @property
    def created(self) -> datetime | None:
        """createdDate, or None where it is null or unreadable."""
        return readable_instant(self.createdDate)


_OF_NO_KNOWN_FORM = "of no known form"  # a modifiedDate that can't be read is another thing than null
_SOUGHT = ("ID", "jobID", "modifiedDate", "createdDate", "purgeDateTime")  # in a row that is no JSON
_stamp = msgspec.json.Decoder(Stamp)
_places = msgspec.json.Decoder(list[Place])


def query(
    where: Sequence[str] = (),
    order: str = "",
    *,
    top: int | None = None,
    skip: int = 0,
    count: bool = False,
    select: Sequence[str] = (),
) -> str:
    """A complete query string: conditions joined by `and`, spaces as %20."""
    options = {
        "$filter": " and ".join(where),
        "$orderby": order,
        "$top": "" if top is None else str(top),
        "$skip": str(skip or ""),
        "$count": "true" if count else "",
        "$select": ",".join(select),
    }
    return "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in options.items() if value)


def with_page_size(query: str, rows: int) -> str:
    """Return the query with the vendor's own parameter for the size of a page, in place of any that it has."""
    parts = [part for part in query.split("&") if part and not part.startswith("pagesize=")]
    return "&".join([*parts, f"pagesize={rows}"])


def place_of(key: Key | None) -> int | None:
    """Where a key lies among others: an ID by itself, a jobID by the first digits of its GUID; None where neither."""
    if key is None or isinstance(key, int):
        return key
    return int(key[:PREFIX], 16) if re.fullmatch(r"[0-9a-f]{8}", key[:PREFIX]) else None


def literal(value: Key | datetime) -> str:
    """A value as `$filter` writes it: numbers and dates bare, strings quoted. Dates are cut to the millisecond."""
    if isinstance(value, datetime):
        utc = value.astimezone(UTC)
        return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def any_of(name: str, values: Sequence[str]) -> str:
    """The condition that a property equals one of some strings."""
    return "(" + " or ".join(f"{name} eq {literal(value)}" for value in values) + ")"


def instant(text: str) -> datetime:
    """A time of the source in UTC, its fraction of 0-7 digits cut to microseconds. Raises ValueError.

    Cut, not rounded: Postgres would round 9999-12-31T23:59:59.9999999Z into the year 10000.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is no time of the years 1 to 9999 in UTC") from None


def readable_instant(value: object) -> datetime | None:
    """A time, or None where the value isn't one."""
    try:
        return instant(value) if isinstance(value, str) else None
    except ValueError:
        return None


def read_date(text: str) -> datetime | None:
    """Return a time as it is stored: None where the text says "no date", being empty or before 1980. Raises ValueError.

    Filters, slices and the watermark go by `instant`: there a date counts as it is written.
    """
    if text < _FIRST_YEAR:  # a year has four digits; in UTC such a date may lie before the year 1
        if text:
            datetime.fromisoformat(text)
        return None
    value = datetime.fromisoformat(text)
    if value.tzinfo is UTC:  # as nearly all are
        return value
    value = instant(text)
    return None if value < FIRST_DATE else value


def find_date(value: object) -> datetime | None:
    """Return a time as it is stored, None where the value is none, or can't be read as one."""
    try:
        return read_date(value) if isinstance(value, str) else None
    except ValueError:
        return None


def rowversion(text: str) -> int:
    """Return the unsigned big-endian number in eight bytes of base64 or base64url, padded or not.

    Raises ValueError, above 2^63 - 1 too (bigint's end).
    """
    try:
        raw = _decode_base64(text)
    except ValueError:  # binascii's errors are ValueErrors
        raise ValueError("rowversion is not base64") from None
    if len(raw) != 8:
        raise ValueError(f"rowversion has {len(raw)} bytes instead of 8")
    return _to_number(raw)


def version_of(stamp: Stamp) -> int | None:
    """The rowversion of a row's stamp, from the property, else from its etag; None where neither shows a good one."""
    try:
        return rowversion(str(stamp.rowversion)) if stamp.rowversion else etag_rowversion(str(stamp.etag or ""))
    except ValueError:
        return None


def etag_rowversion(etag: str) -> int | None:
    """Return the rowversion in an etag W/"base64 of binary'base64'"; None for an etag of another form.

    Raises ValueError where the form is right and the number is 2^63 or more.
    """
    match = _ETAG.fullmatch(etag)
    try:
        inner = _decode_base64(match[1]).decode("ascii") if match else ""
        raw = _decode_base64(inner[7:-1]) if inner.startswith("binary'") and inner.endswith("'") else b""
    except ValueError:
        return None
    return _to_number(raw) if len(raw) == 8 else None


def _to_number(raw: bytes) -> int:
    number = int.from_bytes(raw, "big")
    if number >= 2**63:
        raise ValueError("rowversion is 2^63 or more")
    return number


def _decode_base64(text: str) -> bytes:
    """Return the bytes of base64 or base64url, padded or not. Raises ValueError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        plain = text.translate(_URL_SAFE)
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)


def comparable(key: Key) -> bool:
    """Whether this program orders the key as the server does: numbers, and jobIDs of the documented form."""
    return isinstance(key, int) or _JOB_ID.fullmatch(key) is not None


def is_less(one: Key, other: Key) -> bool:
    """Order of two comparable keys of one type: numbers as numbers, jobIDs of the documented form as text."""
    if isinstance(one, int) and isinstance(other, int):
        return one < other
    return str(one) < str(other)


def places(rows: Sequence[bytes]) -> Sequence[Place]:
    """Where the raw rows of a page stand: all at once where each can be read."""
    try:
        found = _places.decode(b"[" + b",".join(rows) + b"]")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        found = []
    return found if len(found) == len(rows) else [stamp(row) for row in rows]


def stamp(row: bytes) -> Stamp:
    """Return what steers a run, out of a raw row: of one that is no JSON key and dates, as far as they can be found."""
    try:
        return _stamp.decode(row)
    except RecursionError:
        return stamp(payload.shallow(row))
    except (msgspec.MsgspecError, UnicodeError):
        found = payload.read_loosely(row, _SOUGHT)
        if not isinstance(found.get("modifiedDate"), str):
            found["modifiedDate"] = _OF_NO_KNOWN_FORM
        return Stamp(**found)


def plus(moment: datetime, delta: timedelta) -> datetime:
    """moment + delta, held inside the years 1 to 9999."""
    try:
        return moment + delta
    except OverflowError:
        return LAST if delta > timedelta() else FIRST
