"""Refusals: requests that get a 4xx or 503, each in the one form that the contract has for them."""

from recommender.decisions.log import UnknownRequest
from serving.answer import Refusal
from serving.gateway.hot import Answered
from serving.request import InvalidRequest

RETRY = {"Retry-After": "2"}
"""Seconds. The gateway looks for a new catalogue five times a second, so two seconds later there may be one."""
MEANINGS = {
    400: "Not a request of HTTP/1.1, or one whose end two servers could see differently",
    401: "A bearer token is needed",
    404: "Unknown request id or campaign",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is no application/json",
    422: "Which fields are wrong, and why",
    429: "Too many requests with this token, or too many wrong tokens; see Retry-After",
    431: "The head is too large",
    503: "Nothing to answer with yet, or too many requests at once; see Retry-After",
}
"""Status (RFC 9110) -> what it means here, for the API's description."""


class Refused(Exception):
    """A request that is refused, with status, body and headers."""

    def __init__(self, status: int, refusal: Refusal, headers: dict[str, str] | None = None) -> None:
        super().__init__(refusal.message)
        self.status, self.refusal, self.headers = status, refusal, headers or {}

    def answered(self) -> Answered:
        """What the client gets."""
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        return Answered(self.status, self.refusal.model_dump_json().encode(), headers)


def unavailable(message: str) -> Refused:
    """A 503 that asks the client to try again later."""
    return Refused(503, Refusal(error="unavailable", message=message), RETRY)


def refusal_of(error: InvalidRequest | UnknownRequest) -> Refused:
    """The refusal of a body that breaks the contract, or of a request id that names no decision."""
    if isinstance(error, InvalidRequest):
        return Refused(422, Refusal(error="invalid_request", message=str(error), fields=error.problems))
    return Refused(404, Refusal(error="unknown_request", message=str(error)))
