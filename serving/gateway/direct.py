"""Answers that are written to a connection as they are, before anything of a request's body is read or parsed."""

from dataclasses import dataclass
from http import HTTPStatus

from serving.answer import Refusal


@dataclass(frozen=True)
class Direct:
    """A prepared answer, in the bytes for a connection that stays open and for one that closes."""

    status: int
    kept: bytes
    closing: bytes

    def written(self, headers: bytes, *, keeps: bool) -> bytes:
        """The bytes for a connection that stays open (`keeps`) or closes, with further lines of headers."""
        answer = self.kept if keeps else self.closing
        status_line, end, rest = answer.partition(b"\r\n")
        return b"".join((status_line, end, headers, rest)) if headers else answer


def direct(status: int, body: bytes, headers: dict[str, str] | None = None) -> Direct:
    """Prepare an answer with a JSON body."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name.lower()}: {value}" for name, value in (headers or {}).items()),
    ]
    head = "\r\n".join(lines).encode()
    return Direct(status, head + b"\r\n\r\n" + body, head + b"\r\nconnection: close\r\n\r\n" + body)


def refusal(status: int, error: str, message: str, headers: dict[str, str] | None = None) -> Direct:
    """Prepare a refusal, in the one form that the contract has for them."""
    return direct(status, Refusal(error=error, message=message).model_dump_json().encode(), headers)
