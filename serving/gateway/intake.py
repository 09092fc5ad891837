"""Checks of a request before it is parsed: content type, size and time of its body."""

import asyncio

from fastapi import Request

from recommender.errors import LONGEST_VALUE
from serving.answer import Refusal
from serving.gateway.refusals import Refused
from serving.request import MAX_BODY_BYTES, Problem

BODY_TIMEOUT_S = 10.0
"""Seconds. 512 KiB arrive within this on any working connection, and a client must not hold one open for ever."""
MAX_DRAINED_BYTES = 4 * 2**20
"""So much of a body that is too large is read, so that the client sees the refusal and not a reset connection.
Chosen by hand: sixteen times what is allowed."""


async def read_body(request: Request) -> bytes:
    """The body of a request.

    Raises:
        Refused: It is not application/json, is too large, or did not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        problem = Problem(field="body", problem=f"Content-Type is {kind[:LONGEST_VALUE]!r}, not application/json")
        raise Refused(415, Refusal(error="unsupported_media_type", message=problem.problem, fields=[problem]))
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size <= MAX_BODY_BYTES:
                    content += part
                elif size > MAX_DRAINED_BYTES:
                    break
    except TimeoutError:
        raise Refused(408, Refusal(error="timeout", message="the body did not arrive in time")) from None
    if size > MAX_BODY_BYTES:
        problem = Problem(field="body", problem=f"more than {MAX_BODY_BYTES} bytes")
        raise Refused(413, Refusal(error="too_large", message=problem.problem, fields=[problem]))
    return bytes(content)
