"""Checks of a request before it is parsed: content type, size and time of its body."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from recommender.errors import LONGEST_VALUE
from serving.answer import Refusal
from serving.gateway.arrival import Arrival
from serving.gateway.head import Headers, value_of
from serving.gateway.refusals import Refused
from serving.request import MAX_BODY_BYTES, Problem

JSON = b"application/json"
BODY_TIMEOUT_S = 10.0
"""Seconds. 512 KiB arrive within this on any working connection, and a client must not hold one open for ever."""
MAX_DRAINED_BYTES = 4 * 2**20
"""So much of a body that is too large is read, so that the client sees the refusal and not a reset connection.
Chosen by hand: eight times what is allowed."""
TOO_LARGE = Refusal(
    error="too_large",
    message=f"the body has more than {MAX_BODY_BYTES} bytes",
    fields=[Problem(field="body", problem=f"more than {MAX_BODY_BYTES} bytes")],
)
"""A body that announces its length is refused by its head (`Front.decide`), one in chunks once so much arrived."""


async def read_body(headers: Headers, arrival: Arrival, receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        Refused: It is not application/json, is too large, or did not arrive in time.
    """
    given = value_of(headers, b"content-type")
    if given != JSON and (kind := given.decode("latin-1").partition(";")[0].strip().lower()) != JSON.decode():
        problem = Problem(field="body", problem=f"Content-Type is {kind[:LONGEST_VALUE]!r}, not application/json")
        raise Refused(415, Refusal(error="unsupported_media_type", message=problem.problem, fields=[problem]))
    content = arrival.whole_body()
    if content is None:
        content, size = await _received(receive)
    else:
        size = len(content)
    if size > MAX_BODY_BYTES:
        raise Refused(413, TOO_LARGE)
    return content


async def _received(receive: Receive) -> tuple[bytes, int]:
    """A body that is still on its way, as far as it is kept, and its size, as far as it is read."""
    content, size, more = bytearray(), 0, True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while more and size <= MAX_DRAINED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size <= MAX_BODY_BYTES:
                    content += part
    except TimeoutError:
        raise Refused(408, Refusal(error="timeout", message="the body did not arrive in time")) from None
    return bytes(content), size
