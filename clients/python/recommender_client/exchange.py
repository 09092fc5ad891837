"""One call with its attempts, without input and output: what to send next, and what an answer means.

Both clients drive an `Exchange`. So the rules about trying again are written once.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from recommender_client.answers import Refusal
from recommender_client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownRequest,
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
"""Before the second attempt, doubled before each further one, each time by a random share of it, so that clients that
failed together do not come back together."""
SHORTEST_ATTEMPT_S = 0.005
"""With less time left no further attempt is made."""
TRY_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that another attempt may change."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
STALE = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""A connection that the server had closed while it was idle, or closed before it answered."""

_Model = TypeVar("_Model", bound=BaseModel)


class Exchange:
    """The attempts of one call. Ask `timeout` before each, and tell it what came of it."""

    def __init__(self, deadline_s: float, attempts: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._deadline_s, self._ends = clock, deadline_s, clock() + deadline_s
        self._left, self._pause_s = attempts, FIRST_PAUSE_S
        self._last: Unavailable | None = None

    @property
    def remaining_s(self) -> float:
        """Time until the deadline."""
        return self._ends - self._clock()

    def timeout(self) -> float:
        """Time for the next attempt.

        Raises:
            DeadlineExceeded: None is left.
        """
        if self.remaining_s < SHORTEST_ATTEMPT_S:
            raise self.late()
        self._left -= 1
        return self.remaining_s

    def late(self) -> DeadlineExceeded:
        """The error of a call that has no time left."""
        why = "" if self._last is None else f"; the last attempt: {self._last}"
        return DeadlineExceeded(f"no answer within {self._deadline_s:g} s{why}")

    def pause_after(self, failed: httpx.HTTPError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            DeadlineExceeded: The attempt took all the time.
            Unavailable: Another attempt is pointless, or was the last.
        """
        if isinstance(failed, httpx.TimeoutException) and not isinstance(failed, NOT_SENT):
            raise self.late() from failed
        self._last = Unavailable(f"{type(failed).__name__}: {failed}")
        if not isinstance(failed, (*NOT_SENT, *STALE)):
            raise self._last from failed
        # A stale connection says nothing about the service, so a new one is tried at once.
        return self._next_pause(0.0 if isinstance(failed, STALE) else None)

    def read(self, response: httpx.Response, model: type[_Model]) -> _Model | float:
        """The answer, or the seconds to wait before the next attempt.

        Raises:
            ClientError: The service refused, see `errors`.
            UnexpectedAnswer: It is no answer of this API.
        """
        if response.status_code in (200, 202):
            try:
                return model.model_validate_json(response.content)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                raise UnexpectedAnswer(f"{response.url}: {first['loc']}: {first['msg']}") from None
        if response.status_code in TRY_AGAIN:
            asked = _seconds(response.headers.get("retry-after"))
            self._last = Unavailable(_message(response), status=response.status_code, retry_after_s=asked)
            return self._next_pause(asked)
        raise _refused(response)

    def _next_pause(self, asked_s: float | None) -> float:
        assert self._last is not None
        pause_s = random.uniform(0.5, 1.0) * self._pause_s if asked_s is None else asked_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self._left <= 0 or pause_s + SHORTEST_ATTEMPT_S > self.remaining_s:
            raise self._last
        return pause_s


def _refused(response: httpx.Response) -> ClientError:
    status, message = response.status_code, _message(response)
    if status in (400, 408, 413, 415, 422):
        refusal = _refusal(response)
        return InvalidRequest(message, [] if refusal is None else refusal.fields)
    if status in (401, 403):
        return Unauthorized(message)
    if status == 404:
        refusal = _refusal(response)
        if refusal is not None and refusal.error == "unknown_request":
            return UnknownRequest(message)
    if status >= 500:
        return Unavailable(message, status=status)
    return UnexpectedAnswer(f"{response.url}: status {message}")


def _refusal(response: httpx.Response) -> Refusal | None:
    try:
        return Refusal.model_validate_json(response.content)
    except ValidationError:
        return None


def _message(response: httpx.Response) -> str:
    refusal = _refusal(response)
    return f"{response.status_code} {response.reason_phrase if refusal is None else refusal.message}"


def _seconds(text: str | None) -> float | None:
    """Seconds of a Retry-After header. A date is not read: the API sends seconds."""
    return float(text) if text is not None and text.isdecimal() else None
