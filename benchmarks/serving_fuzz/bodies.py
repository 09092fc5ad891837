"""Mutations of a request's body: odd values, keys and encodings, and bytes that are flipped, cut or inserted."""

import gzip
import json
import random
import re
from collections.abc import Callable
from typing import Any

VALUES = (
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"0",
    b"-1",
    b"1.5",
    b"-0.0",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"9223372036854775808",
    b"1" + b"0" * 400,
    b"0" * 50,
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\\u0000"',
    b'"a\x00b"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',  # a lone surrogate, as bytes
    b'"\xf4\x90\x80\x80"',  # beyond Unicode
    b'"\xc0\xaf"',  # an overlong slash
    b'"\\x41"',
    b'"' + "用户🛒".encode() * 60 + b'"',
    b'"' + b"x" * 5_000 + b'"',
    b"[" * 200 + b"]" * 200,
    b"[" * 20_000,
    b'{"a":' * 200 + b"1" + b"}" * 200,
    b'["c",' * 3 + b'"c"' + b"]" * 3,
    b"[" + b",".join([b'"c"'] * 501) + b"]",
    b'"2017-12-31T00:00:00"',
    b'"0001-01-01T00:00:00+14:00"',
    b"{" + b",".join(b'"k%d":1' % number for number in range(40)) + b"}",
)
KEYS = ("user_id", "instances", "inputs", "context", "", "__proto__", "\x00", "k" * 70, "USER_ID", "probe", "用户")
ENCODINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: body.decode("latin-1").encode("utf-16"),
    lambda body: body.decode("latin-1").encode("utf-32-le"),
    lambda body: b"\xef\xbb\xbf" + body,
    gzip.compress,
    lambda body: body.replace(b'"', b"'"),
    lambda body: b" " * 1_000 + body + b"\n" * 1_000,
    lambda body: body + body,
    lambda body: body + b"\x00",
    lambda body: b"[" + body + b"]",
    lambda body: json.dumps(body.decode("latin-1")).encode(),
    lambda body: b"user_id=1&num_items=2",
)
_LEAF = re.compile(rb'(?<=[:\[,] )("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null)')
MOST_FLIPS = 4
"""More turn every body into noise, which is refused at its first byte."""


def value(rng: random.Random, body: bytes) -> bytes:
    """Put an odd value in the place of one of the body's."""
    places = list(_LEAF.finditer(body))
    if not places:
        return rng.choice(VALUES)
    found = rng.choice(places)
    return body[: found.start()] + rng.choice(VALUES) + body[found.end() :]


def key(rng: random.Random, body: bytes) -> bytes:
    """Add a key, which may be there already, with an odd value."""
    start = body.rfind(b"{", 0, rng.randrange(1, len(body) + 1)) if body else -1
    if start < 0:
        return b"{" + body
    added = json.dumps(rng.choice(KEYS)).encode() + b": " + rng.choice((*VALUES, b'"1"', b"3")) + b", "
    return body[: start + 1] + added + body[start + 1 :]


def removed(rng: random.Random, body: bytes) -> bytes:
    """Leave a key out, or a value of a list."""
    try:
        document = json.loads(body)
    except ValueError:
        return body[: len(body) // 2]
    holder: Any = document
    while isinstance(holder, dict | list) and holder:
        place = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[place]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.4:
            del holder[place]
            break
        holder = inner
    return json.dumps(document).encode()


def flipped(rng: random.Random, body: bytes) -> bytes:
    """Flip one to four bits."""
    changed = bytearray(body or b"{}")
    for _ in range(rng.randint(1, MOST_FLIPS)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, body: bytes) -> bytes:
    """Leave out the end, or a part of the middle."""
    start, end = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return body[:end] if rng.random() < 0.5 else body[:start] + body[end:]


def inserted(rng: random.Random, body: bytes) -> bytes:
    """Insert random bytes."""
    place = rng.randrange(len(body) + 1)
    return body[:place] + rng.randbytes(rng.randint(1, 64)) + body[place:]


def encoded(rng: random.Random, body: bytes) -> bytes:
    """Write the body in another encoding, or as something that is no request."""
    return rng.choice(ENCODINGS)(body)


def past_the_end(rng: random.Random, body: bytes) -> bytes:
    """Change digits and dots of a request id, so that it points to another place or past its file."""
    if rng.random() < 0.3:
        return re.sub(rb"\.[0-9a-f]+\.", b"." + b"f" * rng.randint(1, 40) + b".", body)
    changed = bytearray(body)
    places = [place for place, byte in enumerate(body) if chr(byte) in "0123456789abcdef.-"]
    for place in rng.sample(places, min(len(places), rng.randint(1, 3))):
        changed[place] = ord(rng.choice("0123456789abcdef.-"))
    return bytes(changed)


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    value,
    value,
    key,
    key,
    removed,
    flipped,
    cut,
    inserted,
    encoded,
    past_the_end,
)
