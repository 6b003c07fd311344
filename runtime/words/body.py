"""The body of a response as UTF-8, whatever packing and encoding its headers name."""

from __future__ import annotations

import zlib
from email.message import Message

from .reply import Unreadable

_PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 47}  # as zlib calls the formats


def plain_body(body: bytes, headers: Message, most: int) -> bytes:
    """Return a body, unpacked and in UTF-8. Nothing was asked for but that; some servers and proxies send it otherwise.

    Args:
        most: bytes that are unpacked; of a longer one as many and one more.

    Raises:
        Unreadable: it is packed otherwise, damaged, or not in the encoding that is named.
    """
    packing = str(headers.get("Content-Encoding", "identity")).strip().lower()
    if packing in _PACKED:
        unpacking = zlib.decompressobj(_PACKED[packing])
        try:
            body = unpacking.decompress(body, most + 1)
        except zlib.error:
            raise Unreadable("what it packed cannot be unpacked") from None
        if not unpacking.eof and len(body) <= most:
            raise Unreadable("what it packed has no end")
    elif packing not in ("", "identity"):
        raise Unreadable(f"what it sent is packed, as {packing[:20]}, which was not asked for")
    charset = headers.get_content_charset("utf-8")
    if charset.startswith("utf"):  # json knows these
        return body
    try:
        return body.decode(charset).encode()
    except (LookupError, ValueError):
        raise Unreadable(f"what it sent is not in {charset[:20]}, as it says") from None
