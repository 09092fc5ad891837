"""Wire format to the worker: the request as JSON, then the user's packed features as the online store holds them.

    "F", key (16 bytes), length of the JSON (4 bytes, little-endian), JSON of a `ScoringRequest`, packed features

The key tells a worker that the body comes from its own gateway (`serving.wire_key`). A body of JSON begins with "{" or
white space, so the worker can tell the two kinds of body apart by their first byte.
"""

import struct

from pydantic import TypeAdapter, ValidationError

from serving.request import ScoringRequest

CONTENT_TYPE = b"application/octet-stream"
MAGIC = b"F"
KEY_BYTES = 16
_HEAD = struct.Struct(f"<c{KEY_BYTES}sI")
_REQUEST = TypeAdapter(ScoringRequest)


def encode(request: ScoringRequest, features: bytes, key: bytes) -> bytes:
    """The body that `decode` takes apart."""
    head = _REQUEST.dump_json(request)
    return b"".join((_HEAD.pack(MAGIC, key, len(head)), head, features))


def decode(body: bytes) -> tuple[ScoringRequest, bytes, bytes]:
    """The request, the packed features and the key of a body.

    Raises:
        ValueError: The bytes are not such a body. States what is wrong.
    """
    if len(body) < _HEAD.size or body[:1] != MAGIC:
        raise ValueError("not a body of the gateway")
    _, key, length = _HEAD.unpack_from(body)
    start = _HEAD.size
    end = start + length
    if end > len(body):
        raise ValueError(f"the body ends after {len(body)} bytes, but its request alone ends at {end}")
    try:
        return _REQUEST.validate_json(body[start:end], strict=True), body[end:], key
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, wrong['loc'])) or 'request'}: {wrong['msg']}") from None
