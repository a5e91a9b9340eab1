"""What a setting's value may be: lengths of time, addresses, zones; pure."""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

MOST_REQUESTS = 32  # at a time, of any source
MOST_ROWS = 1000  # of a page
PURGE_MODES = ("delete", "scrub", "keep")
_LONGEST = timedelta(days=36_500)
_AT_LEAST = {
    "keep_runs": timedelta(days=8),  # by default runs are folded after seven
    "fold_after": timedelta(hours=1),
    "reread_every": timedelta(minutes=1),
    "every": timedelta(seconds=1),
    "time_limit": timedelta(seconds=1),
}
_LONGEST_LOOK_BACK = timedelta(days=30)
_LONGEST_RUN = timedelta(days=1)
Wrong = Callable[[str, str], None]  # collects a mistake: key, what is wrong


def duration(text: str) -> timedelta:
    """A duration written `900`, `900s`, `15m`, `2h` or `3d`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 900, 900s, 15m, 2h or 3d")
    unit = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def is_token(text: str) -> bool:
    """Whether a text can be a bearer token: visible ASCII, not within quotes.

    The HTTP library's errors would quote anything else.
    """
    return re.fullmatch(r"(?!(['\"]).*\1$)[\x21-\x7e]+", text) is not None


def is_variable(text: str) -> bool:
    """Whether a text is what people call a variable: capital letters, digits and _."""
    return re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", text) is not None


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine's own."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def base_url(text: str, wrong: Wrong, insecure_http: bool) -> str:
    """The base address without a slash at its end."""
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
        (parts.hostname or "").encode("idna")
        port_is_fine = port_is_fine and not re.search(r"[^\x21-\x7e]|[{}]", text)
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if not text:
        wrong("base_url", "is not set; it is the address your AIMS360 API requests go to, such as https://HOST")
    elif parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        wrong("base_url", "is not an address such as https://HOST")
    elif parts.username or parts.password or "?" in text or "#" in text:
        wrong("base_url", "must be plain: no user, password, query or fragment in it")
    elif parts.scheme == "http" and not is_loopback(parts.hostname) and not insecure_http:
        wrong("base_url", "http would send the token in the clear; use https, or --insecure-http where nobody listens")
    return text.rstrip("/")


def without_scheme(token: str) -> str:
    """Return a token without the `Bearer ` that people copy along with it."""
    return re.sub(r"^bearer(\s+|$)", "", token, flags=re.IGNORECASE)


def page_size(text: str, wrong: Wrong) -> None:
    """Judge how many rows a page is asked for; empty: as many as the service offers."""
    if text and not (re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= MOST_ROWS):
        wrong("page_size", f"{text!r} is not a whole number from 1 to {MOST_ROWS}")


def concurrency(text: str, wrong: Wrong) -> None:
    """How many pages at a time."""
    if not re.fullmatch(r"0*[1-9][0-9]?", text) or int(text) > MOST_REQUESTS:
        wrong("concurrency", f"{text!r} is not a whole number from 1 to 32")


def purge(text: str, wrong: Wrong) -> None:
    """What happens at the purge date."""
    if text not in PURGE_MODES:
        wrong("purge", f"{text!r} is none of {', '.join(PURGE_MODES)}")


def time_zone(text: str, wrong: Wrong) -> None:
    """A zone that Python and Postgres both know."""
    try:
        if text.startswith(("posix", "right/", "localtime", "Factory")):
            raise ValueError  # Python's own names: Postgres doesn't know them
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        wrong("time_zone", f"{text!r} is no IANA time zone, such as America/Los_Angeles")


def places(text: str, setting: str) -> tuple[str, ...]:
    """Where secrets may be: folders by their full path, and variables by how they begin, such as `ACME_*`.

    Raises ValueError.
    """
    found = tuple(place for each in text.split(",") if (place := each.strip()))
    for place in found:
        if not (Path(place).is_absolute() or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*", place)):
            raise ValueError(f"{setting}: {place!r} is no full path of a folder, and no beginning such as ACME_*")
    return found


def is_among(named: str, allowed: Iterable[str]) -> bool:
    """Whether a file lies below one of the folders that are allowed, or a variable begins as one may."""
    path = Path(named)
    if not path.is_absolute():
        return any(named.startswith(place[:-1]) for place in allowed if place.endswith("*"))
    return ".." not in path.parts and any(Path(place) in path.parents for place in allowed if not place.endswith("*"))


def length(key: str, text: str, wrong: Wrong) -> timedelta:
    """A length of time, within the bounds of its key."""
    try:
        length = duration(text)
    except (ValueError, OverflowError) as error:
        wrong(key, str(error))
        return timedelta()
    if key == "look_back" and length > _LONGEST_LOOK_BACK:
        wrong(key, f"{text!r} is more than 30 days, after which the source has forgotten the job")
    elif key == "time_limit" and length > _LONGEST_RUN:
        wrong(key, f"{text!r} is more than a day, for which no run of a fleet lasts")
    elif length > _LONGEST:
        wrong(key, f"{text!r} is more than 100 years")
    elif length < _AT_LEAST.get(key, timedelta()):
        wrong(key, f"{text!r} is too short: {_AT_LEAST[key]} at least")
    return length
