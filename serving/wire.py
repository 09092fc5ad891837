"""Wire format to the worker: the request as JSON, then the user's packed features as the online store holds them.

    "F", key (16 bytes), length of the JSON (4 bytes, little-endian), JSON of a `ScoringRequest`, packed features

Requests that waited for a version together leave together, and so do their answers:

    "B", number (4 bytes), then of each its length (4 bytes) and its body as above
    "B", number (4 bytes), then of each its status as in HTTP (2 bytes), length (4 bytes) and JSON

The key tells a worker that the body comes from its own gateway (`serving.wire_key`). A body of JSON begins with "{" or
white space, so the worker can tell the two kinds of body apart by their first byte.
"""

import struct
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from serving.request import ScoringRequest

CONTENT_TYPE = b"application/octet-stream"
MAGIC, BATCH = b"F", b"B"
KEY_BYTES = 16
_HEAD = struct.Struct(f"<c{KEY_BYTES}sI")
_NUMBER, _LENGTH, _ANSWER = struct.Struct("<cI"), struct.Struct("<I"), struct.Struct("<HI")
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


def encode_batch(bodies: Sequence[bytes]) -> bytes:
    """The body that `decode_batch` takes apart."""
    parts = [_NUMBER.pack(BATCH, len(bodies))]
    for body in bodies:
        parts += (_LENGTH.pack(len(body)), body)
    return b"".join(parts)


def decode_batch(content: bytes) -> list[bytes]:
    """The bodies of a batch. The batch itself gives no right: each body is judged by its own key, or is plain JSON.

    Raises:
        ValueError: The bytes are not a batch. States what is wrong.
    """
    return [body for _, body in _parts(content, _LENGTH)]


def encode_answers(answers: Sequence[tuple[int, bytes]]) -> bytes:
    """The answers (status and JSON) to the bodies of a batch, in their order."""
    parts = [_NUMBER.pack(BATCH, len(answers))]
    for status, document in answers:
        parts += (_ANSWER.pack(status, len(document)), document)
    return b"".join(parts)


def decode_answers(content: bytes) -> list[tuple[int, bytes]]:
    """The answers that `encode_answers` put together.

    Raises:
        ValueError: The bytes are something else. States what is wrong.
    """
    return [(status, document) for (status, _), document in _parts(content, _ANSWER)]


def _parts(content: bytes, head: struct.Struct) -> list[tuple[tuple[int, ...], bytes]]:
    """The heads and contents of the parts of a batch. The last number of a head is the length of the content."""
    if len(content) < _NUMBER.size or content[:1] != BATCH:
        raise ValueError("not a batch")
    _, number = _NUMBER.unpack_from(content)
    parts, start = [], _NUMBER.size
    while start < len(content):
        if len(content) - start < head.size:
            raise ValueError(f"the batch ends after {len(content)} bytes, in the middle of a part's head")
        found = head.unpack_from(content, start)
        end = start + head.size + found[-1]
        if end > len(content):
            raise ValueError(f"the batch ends after {len(content)} bytes, but a part of it at {end}")
        parts.append((found, content[start + head.size : end]))
        start = end
    if len(parts) != number:
        raise ValueError(f"a batch of {number} holds {len(parts)}")
    return parts
