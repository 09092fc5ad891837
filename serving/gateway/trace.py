"""Ids that tie a request to what others log about it: W3C `traceparent` and `X-Request-ID`.

Both are taken from the request where they are valid, and made where they are not. They go into the answer's headers,
every log line of the request, and the decision record. W3C Trace Context: https://www.w3.org/TR/trace-context/
"""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

MAX_REQUEST_ID = 128
"""Characters of an X-Request-ID. A UUID has 36, and cloud load balancers' ids have up to about 80."""
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._:/+=@-]{{1,{MAX_REQUEST_ID}}}".encode())
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 1
_current: ContextVar["Trace | None"] = ContextVar("trace", default=None)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The ids of one request."""

    trace_id: str
    """32 hexadecimal digits, the same in every service that the request passes."""
    span_id: str
    """16 hexadecimal digits: this gateway's part of the trace."""
    parent_id: str | None
    """The caller's part. None: the trace begins here."""
    flags: int
    x_request_id: str

    @property
    def traceparent(self) -> str:
        """The header for the answer."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the answer."""
        return [(b"traceparent", self.traceparent.encode()), (b"x-request-id", self.x_request_id.encode())]

    def recorded(self) -> dict[str, str]:
        """What the decision record and the log lines of the request hold."""
        return {"trace_id": self.trace_id, "x_request_id": self.x_request_id}


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Trace:
    """The ids of a request with these headers, whose names are in lower case."""
    parents, request_ids = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"x-request-id":
            request_ids.append(value)
    # Two of a header: nobody knows which one is meant.
    given = _parent(parents[0]) if len(parents) == 1 else None
    trace_id, parent_id, flags = given or (f"{_random(128):032x}", None, 0)
    known = len(request_ids) == 1 and _REQUEST_ID.fullmatch(request_ids[0])
    x_request_id = request_ids[0].decode() if known else f"{_random(128):032x}"
    return Trace(
        trace_id=trace_id, span_id=f"{_random(64):016x}", parent_id=parent_id, flags=flags, x_request_id=x_request_id
    )


def echoed(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Lines for an answer that is given by the head alone: the valid ids of the request, and none of our own."""
    lines = []
    for name, value in headers:
        if (name == b"x-request-id" and _REQUEST_ID.fullmatch(value)) or (name == b"traceparent" and _parent(value)):
            lines.append(name + b": " + value + b"\r\n")
    return b"".join(lines[:2])


def remember(trace: Trace) -> None:
    """Let `current` return this trace within the task that handles the request."""
    _current.set(trace)


def current() -> Trace | None:
    """The trace of the request that is being handled. None: outside of a request."""
    return _current.get()


def recorded() -> dict[str, str]:
    """What log lines, the decision record and the worker get of the present request's ids. Empty outside of one."""
    ids = current()
    return {} if ids is None else ids.recorded()


def _parent(value: bytes) -> tuple[str, str, int] | None:
    """Trace id, the caller's span id and flags. None: not a valid header (W3C Trace Context, 3.2.2)."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # Later versions may say more behind these fields; version 00 says nothing more.
    if (
        version == b"ff"
        or (version == b"00" and more is not None)
        or not (trace_id.strip(b"0") and span_id.strip(b"0"))
    ):
        return None
    # Of the flags only `sampled` is known, and an unknown one must not be passed on.
    return trace_id.decode(), span_id.decode(), int(flags, 16) & SAMPLED


def _random(bits: int) -> int:
    """A random number above 0. Ids of a trace are no secrets, so the fast generator is enough."""
    return random.getrandbits(bits) or 1
