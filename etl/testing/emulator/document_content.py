"""The content of outputs: the same for the same link, another for every other, as large as the row says; in parts."""

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from etl.testing.emulator.job_version import Job, links_of
from etl.testing.emulator.responses import Answer

_LEAST = 1024  # bytes of what has no size
_MEGABYTE = 2**20


def output(job: Job, path: str, headers: Mapping[str, str], ranges: bool) -> Answer | None:
    """The output of a job at a path, wherever the service is mounted; None where the job has none there.

    `headers` are the request's, names in lower case; without `ranges` parts can't be had.
    """
    row = job.payload()
    place = path[path.lower().index("/documentmanagement/") :].lower()
    links = [*links_of(row), str(row.get("requestURL"))]
    if not any(link.lower().endswith(place) for link in links):
        return None
    size = next((size for link, size in _sizes(row).items() if link.lower().endswith(place)), _LEAST)
    digest = blake2b(path.encode()).digest()
    body = (digest * (size // len(digest) + 1))[:size]
    return _part(body, f'"{digest.hex()[:16]}"', headers) if ranges else Answer(200, body, _KIND)


def _sizes(row: Mapping[str, Any]) -> dict[str, int]:
    try:
        documents = json.loads(row["response"])
        return {str(document["DownloadLink"]): int(document["SizeInMB"] * _MEGABYTE) for document in documents}
    except (KeyError, TypeError, ValueError):
        return {}


def _part(body: bytes, etag: str, headers: Mapping[str, str]) -> Answer:
    common = (("ETag", etag), ("Accept-Ranges", "bytes"))
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
    if asked is None or headers.get("if-range", etag) != etag:
        return Answer(200, body, _KIND, common)
    first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
    if first > last:
        return Answer(416, b"", _KIND, (("Content-Range", f"bytes */{len(body)}"),))
    where = ("Content-Range", f"bytes {first}-{last}/{len(body)}")
    return Answer(206, body[first : last + 1], _KIND, (*common, where))


_KIND = "application/octet-stream"
