"""Attempts: what is sent over one connection, in which pieces, and whether the client waits for an answer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from benchmarks.serving_fuzz import bodies, heads
from benchmarks.serving_fuzz.messages import Message

WAYS = {"body": 8, "head": 8, "both": 2, "pipelined": 2, "pieces": 1, "hang-up": 3}
"""What is done to a request, and how often. By hand: bodies and heads hold most of the cases."""
MOST_AHEAD = 4
"""Good requests that are sent ahead of a mutated one on the same connection."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What is sent over one connection."""

    name: str
    """Target, kind of request and mutation."""
    target: str
    pieces: tuple[bytes, ...]
    """Sent one after the other with a short pause."""
    content: bytes
    """The last request among the bytes, which is the mutated one."""
    answers: int = 1
    """Answers that must come, unless one says that the connection closes."""
    is_private: bool = False
    """Whether a request is in the gateway's own format: 503 is then right where it is late or its features damaged."""
    hangs_up: str | None = None
    """`fin` or `reset`: the client leaves without waiting. None: it waits."""

    @property
    def sent(self) -> bytes:
        """All bytes."""
        return b"".join(self.pieces)


def attempt(rng: random.Random, messages: Sequence[Message]) -> Attempt:
    """Draw one."""
    message = rng.choice(messages)
    (way,) = rng.choices(list(WAYS), weights=list(WAYS.values()))
    mutation, content = _mutated(rng, message, way)
    name = f"{message.target}, {message.kind}: {way}, {mutation}"
    known = Attempt(name=name, target=message.target, pieces=(content,), content=content, is_private=message.is_private)
    if way == "pipelined":
        peers = [one for one in messages if one.target == message.target]
        ahead = [rng.choice(peers) for _ in range(rng.randint(1, MOST_AHEAD))]
        whole = b"".join(one.written() for one in ahead) + content
        private = any(one.is_private for one in (message, *ahead))
        return replace(known, pieces=(whole,), answers=len(ahead) + 1, is_private=private)
    if way == "pieces":
        places = sorted(rng.randrange(1, len(content)) for _ in range(3))
        cuts = [0, *places, len(content)]
        return replace(known, pieces=tuple(content[a:b] for a, b in pairwise(cuts)))
    if way == "hang-up":
        kept = content if rng.random() < 0.4 else content[: rng.randrange(len(content) + 1)]
        return replace(known, pieces=(kept,), answers=0, hangs_up=rng.choice(("fin", "reset")))
    return known


def _mutated(rng: random.Random, message: Message, way: str) -> tuple[str, bytes]:
    """The name of a mutation and the bytes that it makes."""
    if way in ("body", "both") or (way == "pipelined" and rng.random() < 0.5):
        of_body = rng.choice(bodies.MUTATIONS)
        message = replace(message, body=of_body(rng, message.body))
        if way != "both":
            return of_body.__name__, message.written()
    of_head = rng.choice(heads.MUTATIONS)
    return of_head.__name__, of_head(rng, message)
