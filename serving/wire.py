"""Wire format to the worker: the request as JSON, then the user's packed features as the online store holds them.

    "F", length of the JSON (4 bytes, little-endian), JSON of a `ScoringRequest`, packed features

A body of JSON begins with "{" or white space, so the worker can tell the two kinds of body apart by their first byte.
"""

import struct

from pydantic import TypeAdapter, ValidationError

from serving.request import ScoringRequest

CONTENT_TYPE = b"application/octet-stream"
MAGIC = b"F"
_HEAD = struct.Struct("<cI")
_REQUEST = TypeAdapter(ScoringRequest)


def encode(request: ScoringRequest, features: bytes) -> bytes:
    """The body that `decode` takes apart."""
    head = _REQUEST.dump_json(request)
    return b"".join((_HEAD.pack(MAGIC, len(head)), head, features))


def decode(body: bytes) -> tuple[ScoringRequest, bytes]:
    """The request and the packed features of a body.

    Raises:
        ValueError: The bytes are not such a body. States what is wrong.
    """
    if len(body) < _HEAD.size or body[:1] != MAGIC:
        raise ValueError("not a body of the gateway")
    start = _HEAD.size
    end = start + _HEAD.unpack_from(body)[1]
    if end > len(body):
        raise ValueError(f"the body ends after {len(body)} bytes, but its request alone ends at {end}")
    try:
        return _REQUEST.validate_json(body[start:end], strict=True), body[end:]
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, wrong['loc'])) or 'request'}: {wrong['msg']}") from None
