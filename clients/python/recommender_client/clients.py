"""The clients: the same calls, blocking and for asyncio. Both are safe to share between threads or tasks."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from recommender_client.answers import EventsTaken, Recommendations
from recommender_client.exchange import Exchange

DEADLINE_S = 1.0
"""A page's patience. The gateway's own deadline is far shorter, and its answer is the popular list."""
ATTEMPTS = 3
IDLE_S = 60.0
"""Connections are closed after as long without a request: before the gateway does, which waits 75 s."""
CONNECTIONS = 100
Token = str | Callable[[], str] | None
"""The token, or a function that returns it: it is called for each request, so a token can be rotated."""

_Model = TypeVar("_Model", bound=BaseModel)


class _Recorded(BaseModel):
    request_id: str


class _Calls:
    """What both clients share: bodies, headers and limits."""

    def __init__(self, token: Token, deadline_s: float, attempts: int) -> None:
        if deadline_s <= 0 or attempts < 1:
            raise ValueError(f"deadline_s must be above 0 and attempts at least 1 (got {deadline_s}, {attempts})")
        self._token, self._deadline_s, self._attempts = token, deadline_s, attempts

    def _exchange(self, deadline_s: float | None) -> Exchange:
        return Exchange(self._deadline_s if deadline_s is None else deadline_s, self._attempts)

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {**({} if token is None else {"authorization": f"Bearer {token}"}), **(headers or {})}


def _question(user_id: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, **{name: value for name, value in fields.items() if value is not None}}


def _shown(answer: Recommendations | str, campaign_ids: Sequence[str] | None) -> dict[str, Any]:
    request_id = answer.request_id if isinstance(answer, Recommendations) else answer
    if request_id is None:
        raise ValueError("the answer has no request_id, because its decision could not be recorded: nothing to confirm")
    return {"request_id": request_id, **({} if campaign_ids is None else {"campaign_ids": list(campaign_ids)})}


def _batch(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of a call. An event without an id gets one, which stays the same when the call is tried again."""
    return {"events": [{"event_id": str(uuid.uuid4()), **event} for event in events]}


class Client(_Calls):
    """Blocking client. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        deadline_s: float = DEADLINE_S,
        attempts: int = ATTEMPTS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to `url`, for example http://campaign-gateway.campaigns.

        Args:
            url: Address of the gateway.
            token: Bearer token, or a function that returns the present one.
            deadline_s: Time for a call with all its attempts.
            attempts: How often a call is tried at most.
            transport: Of httpx, for example with a proxy or certificates of your own.
        """
        super().__init__(token, deadline_s, attempts)
        limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=IDLE_S)
        self._http = httpx.Client(base_url=url, limits=limits, transport=transport)

    def recommend(
        self,
        user_id: str,
        *,
        campaign_ids: Sequence[str] | None = None,
        exclude_campaign_ids: Sequence[str] | None = None,
        num_campaigns: int | None = None,
        num_items: int | None = None,
        explain: bool | None = None,
        context: Mapping[str, str | int | float | bool] | None = None,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Recommendations:
        """Recommend campaigns to a user. What is left out has the service's default.

        Args:
            user_id: The shopper.
            campaign_ids: The candidates. None: every live campaign.
            exclude_campaign_ids: Campaigns that are no candidates.
            num_campaigns: How many campaigns at most.
            num_items: How many items of each at most.
            explain: Also say of each campaign which place it got and why.
            context: Where the answer will be shown. It is kept with the decision.
            deadline_s: Time for this call with all its attempts.
            headers: Further headers, such as `traceparent` or `X-Request-ID`.

        Raises:
            InvalidRequest, Unauthorized, Unavailable, DeadlineExceeded, UnexpectedAnswer: See `errors`.
        """
        question = _question(
            user_id,
            campaign_ids=campaign_ids,
            exclude_campaign_ids=exclude_campaign_ids,
            num_campaigns=num_campaigns,
            num_items=num_items,
            explain=explain,
            context=context,
        )
        return self._post("/v1/recommendations", question, Recommendations, deadline_s, headers)

    def expose(
        self,
        answer: Recommendations | str,
        campaign_ids: Sequence[str] | None = None,
        *,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Confirm that an answer was shown to its user.

        Args:
            answer: The answer, or its request_id.
            campaign_ids: The campaigns of it that were shown. None: all.
            deadline_s: Time for this call with all its attempts.
            headers: Further headers.

        Raises:
            ValueError: The answer has no request_id.
            UnknownRequest: No decision has this id.
            InvalidRequest, Unauthorized, Unavailable, DeadlineExceeded, UnexpectedAnswer: See `errors`.
        """
        self._post("/v1/exposures", _shown(answer, campaign_ids), _Recorded, deadline_s, headers)

    def send_events(
        self,
        events: Sequence[Mapping[str, Any]],
        *,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EventsTaken:
        """Tell what shoppers just did. What the answer counts, but for `rejected`, cannot be lost any more.

        Args:
            events: Each has `kind`, `user_id` and what its kind needs; see docs/events.md. One without an `event_id`
                gets a random one. Give your own, so that an event that is sent by two calls counts once.
            deadline_s: Time for this call with all its attempts.
            headers: Further headers.

        Raises:
            InvalidRequest: Every event breaks the contract, or they are too many for one call.
            Unauthorized, Unavailable, DeadlineExceeded, UnexpectedAnswer: See `errors`. After the middle two the events
                may have been taken; sending them again with the same ids is safe.
        """
        return self._post("/v1/events", _batch(events), EventsTaken, deadline_s, headers)

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        model: type[_Model],
        deadline_s: float | None,
        headers: Mapping[str, str] | None,
    ) -> _Model:
        exchange = self._exchange(deadline_s)
        while True:
            try:
                timeout_s = exchange.timeout()
                response = self._http.post(path, json=body, headers=self._headers(headers), timeout=timeout_s)
                found = exchange.read(response, model)
            except httpx.HTTPError as error:
                found = exchange.pause_after(error)
            if not isinstance(found, float):
                return found
            time.sleep(found)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Calls):
    """Client for asyncio, with the calls of `Client`. Use it as a context manager, or await `close`."""

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        deadline_s: float = DEADLINE_S,
        attempts: int = ATTEMPTS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `Client`."""
        super().__init__(token, deadline_s, attempts)
        limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=IDLE_S)
        self._http = httpx.AsyncClient(base_url=url, limits=limits, transport=transport)

    async def recommend(
        self,
        user_id: str,
        *,
        campaign_ids: Sequence[str] | None = None,
        exclude_campaign_ids: Sequence[str] | None = None,
        num_campaigns: int | None = None,
        num_items: int | None = None,
        explain: bool | None = None,
        context: Mapping[str, str | int | float | bool] | None = None,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Recommendations:
        """As `Client.recommend`."""
        question = _question(
            user_id,
            campaign_ids=campaign_ids,
            exclude_campaign_ids=exclude_campaign_ids,
            num_campaigns=num_campaigns,
            num_items=num_items,
            explain=explain,
            context=context,
        )
        return await self._post("/v1/recommendations", question, Recommendations, deadline_s, headers)

    async def expose(
        self,
        answer: Recommendations | str,
        campaign_ids: Sequence[str] | None = None,
        *,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """As `Client.expose`."""
        await self._post("/v1/exposures", _shown(answer, campaign_ids), _Recorded, deadline_s, headers)

    async def send_events(
        self,
        events: Sequence[Mapping[str, Any]],
        *,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EventsTaken:
        """As `Client.send_events`."""
        return await self._post("/v1/events", _batch(events), EventsTaken, deadline_s, headers)

    async def _post(
        self,
        path: str,
        body: dict[str, Any],
        model: type[_Model],
        deadline_s: float | None,
        headers: Mapping[str, str] | None,
    ) -> _Model:
        exchange = self._exchange(deadline_s)
        while True:
            try:
                timeout_s = exchange.timeout()
                call = self._http.post(path, json=body, headers=self._headers(headers), timeout=timeout_s)
                found = exchange.read(await asyncio.wait_for(call, timeout_s), model)
            except TimeoutError:
                raise exchange.late() from None
            except httpx.HTTPError as error:
                found = exchange.pause_after(error)
            if not isinstance(found, float):
                return found
            await asyncio.sleep(found)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
