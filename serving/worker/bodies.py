"""Bodies that a worker takes, and the answers to them: one request, or a batch of users in one of two envelopes.

    the gateway's format             one user, or a batch of requests that waited together (`serving.wire`)
    {"user_id": …}                   one user
    {"instances": [{…}, …]}          KServe v1; answer {"predictions": [{…}, …]}
    {"inputs": [{"name": "requests", "datatype": "BYTES", "shape": [N], "data": ["{…}", …]}]}
                                     Open Inference Protocol v2; answer with the tensors `answers` (BYTES, JSON) and
                                     `statuses` (INT32)

A batch's envelope and all `instances` are checked before the first user is scored. After that, a user who cannot be
answered gets a refusal in place of an answer, and the others their answers.
"""

from collections.abc import Sequence
from typing import Annotated

import orjson
from pydantic import Field

from serving import wire
from serving.request import DirectRequest, InvalidRequest, Strict, parse
from serving.worker.answering import Answered, Answering, invalid, refused
from serving.worker.tensors import MOST_USERS, infer


class Instances(Strict):
    """Body of KServe's protocol v1."""

    instances: Annotated[list[DirectRequest], Field(min_length=1, max_length=MOST_USERS)]


def respond(answering: Answering, content: bytes) -> tuple[int, bytes]:
    """Status and JSON of the answer to any body. A batch of the gateway gets a batch of answers (`serving.wire`)."""
    if content[:1] == wire.BATCH:
        return _batch(answering, content)
    status, document = _answered(answering, content)
    return status, orjson.dumps(document)


def respond_all(answering: Answering, contents: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Status and JSON of the answers to several bodies. Those of one user each are scored together."""
    single = [place for place, content in enumerate(contents) if content[:1] != wire.BATCH and not _envelope(content)]
    answers = dict(zip(single, answering.batch([contents[place] for place in single]), strict=True))
    return [
        (answers[place][0], orjson.dumps(answers[place][1])) if place in answers else respond(answering, content)
        for place, content in enumerate(contents)
    ]


def _batch(answering: Answering, content: bytes) -> tuple[int, bytes]:
    try:
        bodies = wire.decode_batch(content)
    except ValueError as error:
        status, document = refused(invalid("body", str(error)))
        return status, orjson.dumps(document)
    answers = [(status, orjson.dumps(document)) for status, document in answering.batch(bodies)]
    return 200, wire.encode_answers(answers)


def _answered(answering: Answering, content: bytes) -> Answered:
    envelope = _envelope(content)
    if envelope == "inputs":
        return infer(answering, content)
    if envelope == "instances":
        try:
            instances = parse(Instances, content).instances
        except InvalidRequest as error:
            return refused(error)
        return 200, {"predictions": [document for _, document in answering.requested(instances)]}
    return answering.one(content)


def _envelope(content: bytes) -> str | None:
    """The key that makes a body a batch, or None. Only bodies that contain the word are read for it."""
    if content[:1] not in (b"{", b" ", b"\n", b"\t", b"\r"):
        return None
    named = [key for key in ("inputs", "instances") if b'"%b"' % key.encode() in content]
    if not named:
        return None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None  # `parse` says where it stops being JSON
    return next((key for key in named if key in document and "user_id" not in document), None)
