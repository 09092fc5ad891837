"""Mutations of a request's head and framing: odd headers, ambiguous lengths, chunks, and what is no HTTP."""

import random
from collections.abc import Callable
from dataclasses import replace

from benchmarks.serving_fuzz import bodies
from benchmarks.serving_fuzz.messages import JSON, Message

NAMES = (
    b"X-A", b"Cookie", b"Accept-Encoding", b"Range", b"If-None-Match", b"traceparent", b"X-Request-ID", b"Expect",
    b"Upgrade", b"Content-Encoding", b"Forwarded", b"X-Forwarded-For", b"Authorization", b"TE", b"Trailer",
    b"Content-Type", b"Connection", b"Origin", b"Access-Control-Request-Method", b":path", b"", b"A B", b"\xc3\xa9",
    b"tstimeout", b"explain", b"ce-id", b"x-kserve",
)  # fmt: skip
TEXTS = (
    b"", b" ", b"x", b"a" * 9_000, b"\xff\xfe", b"\x00", b"\x7f", b"a\tb", b"gzip", b"bytes=0-", b"100-continue",
    b"h2c", b"websocket", b"close", b"keep-alive, Upgrade", b"Bearer", b"Basic eDp5", b"\xe7\x94\xa8", b"true", b"-1",
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
    b"%s%n", b"\"'<>", b"99999999999999999999",
)  # fmt: skip
TYPES = (
    b"text/plain", b"application/xml", b"", b"application/json; charset=utf-16", b"APPLICATION/JSON", b"application/*",
    b"multipart/form-data", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"\xff",
    b"application/octet-stream", b"application/json, text/plain", b"application/json;;;", b"image/png",
    b"application/json; charset=nonsense", b"application/grpc",
)  # fmt: skip
METHODS = (b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"post", b"HEAD", b"X", b"P\x00ST")
PATHS = (
    b"/", b"*", b"//", b"/..", b"/v1/../metrics", b"/v1/recommendations/", b"/v1/recommendations?x=1", b"/%00", b"/%",
    b"/%ff%fe", b"/v1/recommendations%2f", b"http://other/v1/recommendations", b"other:80", b"/" + b"a" * 5_000,
    b"/\xff", b"/v1/recommendations#x", b"/?" + b"a=b&" * 500, b"/predictions/campaign_ranker/none",
    b"/predictions/none", b"/predictions", b"/predictions/campaign_ranker?user_id=1&data=x", b"/v2/models/none/infer",
    b"/v1/models/campaign_ranker", b"/v1/models/none:predict", b"/v2", b"/ping", b"/explanations/campaign_ranker",
    b"/predictions/campaign_ranker/%2e%2e", b"/models", b"/invocations", b"/v1/exposures?%", b"/v2/health/ready",
    b"/v1/models/campaign_ranker:explain", b"/v2/models/campaign_ranker/versions/none/infer", b"/api-description",
)  # fmt: skip
VERSIONS = (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/9.9", b"http/1.1", b"HTTP/1.1 x", b"", b"\x00")
CHUNK_SIZES = (b"-1", b"zz", b"", b"ffffffffffffffff", b"7fffffff", b"0x5", b"5 ", b" 5", b"5;a=b", b"5\x00", b"00005")


def header(rng: random.Random, message: Message) -> bytes:
    """Add an odd header, in an odd place."""
    added = (rng.choice(NAMES), rng.choice(TEXTS))
    place = rng.randrange(len(message.headers) + 1)
    return replace(message, headers=(*message.headers[:place], added, *message.headers[place:])).written()


def doubled(rng: random.Random, message: Message) -> bytes:
    """Send one header twice, perhaps with another value: a second Host or Authorization, too."""
    name, text = rng.choice(message.headers)
    return message.with_headers((name, text if rng.random() < 0.5 else rng.choice(TEXTS))).written()


def left_out(rng: random.Random, message: Message) -> bytes:
    """Leave one header out."""
    return message.without(rng.choice(message.headers)[0]).written()


def many(rng: random.Random, message: Message) -> bytes:
    """Send hundreds of headers, or a long one."""
    if rng.random() < 0.5:
        return message.with_headers(*((b"X-%d" % number, b"x") for number in range(rng.randint(90, 400)))).written()
    return message.with_headers((b"X-Long", b"x" * rng.randint(8_000, 200_000))).written()


def scheme(rng: random.Random, message: Message) -> bytes:
    """Write names of headers and the word Bearer in any case, with any spaces behind the colon."""

    def case(text: bytes) -> bytes:
        return bytes(ord(chr(one).swapcase()) if one < 128 and rng.random() < 0.5 else one for one in text)

    changed = tuple(
        (case(name), rng.choice((b"", b" ", b"\t")) + (case(text[:6]) + text[6:] if text[:6] == b"Bearer" else text))
        for name, text in message.headers
    )
    return replace(message, headers=changed).written()


def content_type(rng: random.Random, message: Message) -> bytes:
    """Name another content type."""
    return message.without(b"Content-Type").with_headers((b"Content-Type", rng.choice(TYPES))).written()


def line(rng: random.Random, message: Message) -> bytes:
    """Ask with another method, path or version."""
    place = rng.choice(("method", "path", "path", "version"))
    if place == "method":
        return replace(message, method=rng.choice(METHODS)).written()
    if place == "path":
        return replace(message, path=rng.choice(PATHS)).written()
    return replace(message, version=rng.choice(VERSIONS)).written()


def ends(rng: random.Random, message: Message) -> bytes:
    """End lines in another way, or fold a header."""
    head = message.head()
    other = rng.choice((b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\x0b", b" \r\n"))
    place = rng.choice([at for at in range(len(head)) if head.startswith(b"\r\n", at)])
    whole = head.replace(b"\r\n", other) if rng.random() < 0.3 else head[:place] + other + head[place + 2 :]
    return whole + message.body


def length(rng: random.Random, message: Message) -> bytes:
    """Announce the body's length in a way that servers could read differently."""
    size = len(message.body)
    announced: tuple[tuple[bytes, ...], ...] = (
        (b"%d" % size, b"%d" % (size + 1)),
        (b"%d" % size, b"%d" % size),
        (b"+%d" % size,),
        (b"%d, %d" % (size, size),),
        (b"-1",),
        (b"0x%x" % size,),
        (b"",),
        (b"%d " % size,),
        (b"00%d" % size,),
        (b"99999999999999999999999",),
        (b"%d" % (size + rng.randint(1, 50)),),
        (b"%d" % rng.randint(0, size),),
        (b"%d" % 2**31,),
        (b"\xb2",),
        (),
    )
    lengths = [(b"Content-Length", text) for text in rng.choice(announced)]
    if rng.random() < 0.2:
        lengths.insert(rng.randrange(len(lengths) + 1), (b"Transfer-Encoding", b"chunked"))
    return replace(message, sized=False).with_headers(*lengths).written()


def chunked(rng: random.Random, message: Message) -> bytes:
    """Send the body in chunks, some of which are no chunks."""
    head = replace(message, sized=False).with_headers(
        (
            b"Transfer-Encoding",
            rng.choice((b"chunked",) * 6 + (b"Chunked", b"gzip, chunked", b"chunked, chunked", b"x")),
        )
    )
    parts, left = [], message.body
    odd = rng.random() < 0.5
    while left:
        size = rng.randint(1, max(1, len(left)))
        named = rng.choice(CHUNK_SIZES) if odd and rng.random() < 0.3 else b"%x" % size
        end = rng.choice((b"\n", b"", b"\r\n\r\n")) if odd and rng.random() < 0.2 else b"\r\n"
        parts.append(named + b"\r\n" + left[:size] + end)
        left = left[size:]
    last = rng.choice(
        (b"0\r\n\r\n", b"0\r\nX-Trailer: a\r\nHost: b\r\n\r\n", b"0;x\r\n\r\n", b"0\r\nno trailer\r\n\r\n")
    )
    return head.head() + b"".join(parts) + last


def flipped(rng: random.Random, message: Message) -> bytes:
    """Flip one to four bits of the head."""
    return bodies.flipped(rng, message.head()) + message.body


def upgrade(rng: random.Random, message: Message) -> bytes:
    """Ask for another protocol, or for leave to send the body."""
    asked = rng.choice(
        (
            (
                (b"Connection", b"Upgrade, HTTP2-Settings"),
                (b"Upgrade", b"h2c"),
                (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"),
            ),
            ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"x")),
            ((b"Expect", b"100-continue"),),
            ((b"Expect", b"nothing"),),
        )
    )
    return message.with_headers(*asked).written()


def noise(rng: random.Random, message: Message) -> bytes:
    """Send bytes that are no HTTP at all."""
    return rng.choice(
        (
            rng.randbytes(rng.randint(1, 400)) + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(64),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n" * rng.randint(1, 40) + message.written(),
            b"GET\r\n\r\n",
            JSON + b"\r\n\r\n",
            message.body + b"\r\n\r\n",
        )
    )


MUTATIONS: tuple[Callable[[random.Random, Message], bytes], ...] = (
    header,
    header,
    doubled,
    left_out,
    many,
    scheme,
    content_type,
    line,
    line,
    ends,
    length,
    length,
    chunked,
    chunked,
    flipped,
    flipped,
    upgrade,
    noise,
)
