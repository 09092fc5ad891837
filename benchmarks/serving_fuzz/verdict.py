"""Which answers are wrong, and what the endpoint's logs and metrics must not hold afterwards."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving_fuzz.attempts import Attempt
from benchmarks.serving_fuzz.exchange import Exchanged, Reply, reference
from benchmarks.serving_fuzz.messages import GATEWAY

OF_A_WORKER = ("late", "unavailable")
"""Errors with which a worker answers 503 by its contract (docs/serving.md)."""
NETTY_HEAD_BYTES = 8_192
"""Netty's limit for the headers of a request."""
TRACE = re.compile(rb'Traceback \(most recent call last\)|"exception": ?"|^\s+at [\w.$]+\(|Exception in thread', re.M)
"""Traces of Python, plain and in a line of JSON, and of Java."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that must not happen."""

    name: str
    problem: str
    sent: str = ""
    """The bytes, as Python writes them."""


def faults_of(attempt: Attempt, exchanged: Exchanged) -> Iterator[Fault]:
    """What is wrong with the answers to an attempt."""
    for reply in exchanged.replies:
        if (problem := _problem(attempt, reply)) is not None:
            yield Fault(name=attempt.name, problem=problem, sent=repr(attempt.sent))
    if exchanged.ended == "unreadable" and not exchanged.closes:
        yield Fault(name=attempt.name, problem="the answer is no HTTP", sent=repr(attempt.sent))
    elif len(exchanged.replies) < attempt.answers and not exchanged.closes and not _ended_by_right(attempt, exchanged):
        problem = f"{len(exchanged.replies)} of {attempt.answers} answers, connection {exchanged.ended}"
        yield Fault(name=attempt.name, problem=problem, sent=repr(attempt.sent))


def is_known(reply: Reply) -> bool:
    """Whether an answer is a fault of TorchServe's Java that no code of ours is part of, counted by itself.

    It takes a request target apart at its slashes, and answers 500 to one without any, such as `*` or `other:80`.
    """
    return reply.status == 500 and _document(reply.body).get("type") == "ArrayIndexOutOfBoundsException"


def is_wrong_5xx(fault: Fault) -> bool:
    """Whether a fault is an answer of the server that blames itself."""
    return fault.problem.startswith("status 5")


def _problem(attempt: Attempt, reply: Reply) -> str | None:
    described = f"status {reply.status}: {reply.body[:300]!r}"
    if reply.status >= 500 and not is_known(reply) and not _is_right(attempt, reply):
        return described
    if attempt.target == GATEWAY and reply.status >= 400 and reply.body and not _is_refusal(reply.body):
        return f"refusal in another form, {described}"
    return None


def _ended_by_right(attempt: Attempt, exchanged: Exchanged) -> bool:
    """Whether TorchServe's Netty may leave a request unanswered. The gateway answers everything.

    The bytes are no HTTP, or their head is longer than it takes, or they are unfinished and end with what
    `exchange` sends to end them. It closes behind each 4xx, so of requests that are sent ahead some may get no answer.
    """
    if attempt.target == GATEWAY:
        return False
    if exchanged.replies:
        return True
    read = reference(attempt.sent)
    return not read.is_http or read.complete < attempt.answers or _longest_head(attempt.sent) > NETTY_HEAD_BYTES


def _longest_head(sent: bytes) -> int:
    return max(map(len, sent.split(b"\r\n\r\n")))


def _is_right(attempt: Attempt, reply: Reply) -> bool:
    if reply.status != 503:
        return False
    if attempt.target == GATEWAY:
        # `unavailable` would be a disk or a catalogue that failed, which they do not here.
        return reply.headers.get("retry-after", "").isdigit() and _document(reply.body).get("error") == "overloaded"
    return attempt.is_private and _document(reply.body).get("error") in OF_A_WORKER


def _is_refusal(body: bytes) -> bool:
    document = _document(body)
    return isinstance(document.get("error"), str) and isinstance(document.get("message"), str)


def _document(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class Logs:
    """What is appended to the files of a folder from now on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes = {file: file.stat().st_size for file in self._files()}

    def _files(self) -> list[Path]:
        return [file for file in sorted(self._folder.rglob("*")) if file.is_file()]

    def traces(self) -> list[Fault]:
        """The traces in it, each with what stands around it."""
        found = []
        for file in self._files():
            with file.open("rb") as opened:
                opened.seek(self._sizes.get(file, 0))
                text = opened.read()
            for match in TRACE.finditer(text):
                around = text[max(0, match.start() - 300) : match.end() + 1_200]
                found.append(Fault(name=f"log {file.name}", problem=around.decode(errors="replace")))
        return found
