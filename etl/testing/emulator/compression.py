"""Bodies compressed with gzip, and pages that are small only while they are compressed."""

import gzip
import re
import zlib
from dataclasses import replace
from functools import lru_cache

from etl.testing.emulator.responses import Answer

_REFUSED = re.compile(r"q=0(?:\.0*)?", re.ASCII)
_BLOCK = 1 << 20
_BEGIN, _END = b'{"value":[', b"]}"


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header names gzip, and not with `q=0`."""
    for part in accept_encoding.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == "gzip":
            return not any(map(_REFUSED.fullmatch, parameters))
    return False


def compress(answer: Answer) -> Answer:
    """Return the answer with its body compressed. A partial answer (206) stays: its range counts plain bytes."""
    return answer if answer.status == 206 else _encode(answer, gzip.compress(answer.body, 1, mtime=0))


def make_bomb(answer: Answer, size: int) -> Answer:
    """Return a page without rows in place of the answer, which decompresses to more than `size` bytes of blanks."""
    return _encode(answer, _pack_blanks(size))


def _encode(answer: Answer, body: bytes) -> Answer:
    headers = (*answer.headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
    return replace(answer, body=body, headers=headers)


@lru_cache(maxsize=2)
def _pack_blanks(size: int) -> bytes:
    # One block is compressed and repeated: after a full flush, compressed bytes depend on nothing before them. One
    # stream and not one per block, since httpx reads only the first stream of a body.
    blanks, blocks = b" " * _BLOCK, size // _BLOCK + 1
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(_BEGIN) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    tail = packer.compress(_END) + packer.flush()
    checksum = zlib.crc32(_BEGIN)
    for _ in range(blocks):
        checksum = zlib.crc32(blanks, checksum)
    length = len(_BEGIN) + blocks * _BLOCK + len(_END)
    end = zlib.crc32(_END, checksum).to_bytes(4, "little") + (length % (1 << 32)).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + head + block * blocks + tail + end
