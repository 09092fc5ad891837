"""Bodies that a worker takes, and the answers to them: one request, or a batch of users in one of two envelopes.

    the gateway's format             one user (`serving.wire`)
    {"user_id": …}                   one user
    {"instances": [{…}, …]}          KServe v1; answer {"predictions": [{…}, …]}
    {"inputs": [{"name": "requests", "datatype": "BYTES", "shape": [N], "data": ["{…}", …]}]}
                                     Open Inference Protocol v2; answer with the tensors `answers` (BYTES, JSON) and
                                     `statuses` (INT32)

A batch's envelope and all `instances` are checked before the first user is scored. After that, a user who cannot be
answered gets a refusal in place of an answer, and the others their answers.
"""

from typing import Annotated

import orjson
from pydantic import Field

from serving.request import DirectRequest, InvalidRequest, Strict, parse
from serving.worker.answering import Answered, Answering, refused
from serving.worker.tensors import MOST_USERS, infer


class Instances(Strict):
    """Body of KServe's protocol v1."""

    instances: Annotated[list[DirectRequest], Field(min_length=1, max_length=MOST_USERS)]


def respond(answering: Answering, content: bytes) -> tuple[int, bytes]:
    """Status and JSON of the answer to any body."""
    status, document = _answered(answering, content)
    return status, orjson.dumps(document)


def _answered(answering: Answering, content: bytes) -> Answered:
    envelope = _envelope(content)
    if envelope == "inputs":
        return infer(answering, content)
    if envelope == "instances":
        try:
            instances = parse(Instances, content).instances
        except InvalidRequest as error:
            return refused(error)
        return 200, {"predictions": [answering.requested(one)[1] for one in instances]}
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
