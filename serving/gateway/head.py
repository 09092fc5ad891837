"""Checks of a request's head that decide whether its bytes are trusted at all."""

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together. More than browsers and proxies send, and small enough to be parsed at once."""
MAX_HEADERS = 100
"""As Apache allows."""
HEAD_TIMEOUT_S = 10.0
"""Seconds for a head to arrive whole, from its first byte or, on a new connection, from its opening."""
HTTP_VERSIONS = ("1.1", "1.0")
"""The parser also takes requests that say HTTP/0.9 or 2.0, though they are written as one of HTTP/1.1."""

Headers = list[tuple[bytes, bytes]]


def framing_problem(headers: Headers, http_version: str) -> str | None:
    """Why two servers could disagree about where this request ends or whom it is for, or None (RFC 9112, 3.2 and 6).

    The names are in lower case. What the parser refuses by itself (bytes that no header may hold, a length that is no
    number) is not looked for again.
    """
    if http_version not in HTTP_VERSIONS:
        return f"this is not a request of HTTP/1.1 (got HTTP/{http_version})"
    hosts = lengths = codings = 0
    chunked = True
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
            if not value.isdigit():
                return "Content-Length is no whole number"
        elif name == b"transfer-encoding":
            codings += 1
            chunked = value.strip().lower() == b"chunked"
    if hosts != 1 and (hosts or http_version == "1.1"):
        return f"a request needs one Host header (got {hosts})"
    if lengths > 1:
        return f"a request has at most one Content-Length (got {lengths})"
    if codings and (lengths or codings > 1 or not chunked or http_version != "1.1"):
        return "the only Transfer-Encoding taken is one `chunked`, of HTTP/1.1 and without Content-Length"
    return None


def body_bytes(headers: Headers) -> int | None:
    """The announced length of the body. None: not announced, as in a chunked body."""
    length: int | None = 0
    for name, value in headers:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            length = None
    return length


def value_of(headers: Headers, name: bytes) -> bytes:
    """The first value of a header. Empty when it is not there."""
    for found, value in headers:
        if found == name:
            return value
    return b""
