"""What the gateway sends to the handler: a few words of JSON and the user's packed features, untouched, behind them.

    "F" · length of the JSON, 4 bytes · JSON · packed features (`recommender.matching.packed_user.pack`)

A body of JSON begins with "{" or white space, so the two kinds of body cannot be mistaken for one another.
"""

import struct
from typing import Any

import orjson

CONTENT_TYPE = b"application/octet-stream"
_HEAD = struct.Struct("<cI")
MAGIC = b"F"


def encode(words: dict[str, Any], features: bytes) -> bytes:
    """The body that `decode` takes apart."""
    head = orjson.dumps(words)
    return _HEAD.pack(MAGIC, len(head)) + head + features


def decode(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Words and packed features of a body.

    Raises:
        ValueError: it is no such body.
    """
    if len(body) < _HEAD.size or body[:1] != MAGIC:
        raise ValueError("not a body of the gateway")
    start = _HEAD.size
    end = start + _HEAD.unpack_from(body)[1]
    if end > len(body):
        raise ValueError("a body of the gateway that was cut off")
    words: dict[str, Any] = orjson.loads(body[start:end])
    return words, body[end:]
