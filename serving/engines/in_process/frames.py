"""Frames between the gateway and a worker process, over a pair of connected sockets.

    request   length (4 bytes, little-endian), body of `serving.worker.bodies`
    answer    status (2 bytes), length (4 bytes), JSON

A worker answers in the order in which it was asked. The first request is the settings as JSON, and the first answer is
200 once the worker is ready, or another status with the reason why it cannot be.
"""

import struct
from collections.abc import Iterator

REQUEST = struct.Struct("<I")
ANSWER = struct.Struct("<HI")


def request(body: bytes) -> bytes:
    """The frame of a request."""
    return REQUEST.pack(len(body)) + body


def answer(status: int, body: bytes) -> bytes:
    """The frame of an answer."""
    return ANSWER.pack(status, len(body)) + body


class Answers:
    """Takes answers apart that arrive in arbitrary pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Status and body of each answer that is whole now."""
        data = self._rest + data if self._rest else data
        start = 0
        while len(data) - start >= ANSWER.size:
            status, length = ANSWER.unpack_from(data, start)
            end = start + ANSWER.size + length
            if end > len(data):
                break
            yield status, data[start + ANSWER.size : end]
            start = end
        self._rest = data[start:]
