"""What the gateway decides from a request's head alone: who may ask, how often, and how many at once.

A refusal here costs a tenth of an answer, so most of the machine is left for the requests that are admitted.
"""

import asyncio
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

from recommender import logs
from recommender.settings import ServingSettings
from serving.gateway.direct import Direct, direct, refusal
from serving.gateway.head import body_bytes, value_of
from serving.gateway.intake import TOO_LARGE
from serving.gateway.metrics import Metrics
from serving.gateway.tokens import Tokens
from serving.gateway.turns import Turns
from serving.request import MAX_BODY_BYTES

log = logs.get(__name__)
API = "/v1/"
RECOMMENDATIONS = "/v1/recommendations"
EXPOSURES = "/v1/exposures"
EVENTS = "/v1/events"
WAITING_SHARE = 0.125
"""Part of the deadline that admitted requests may wait for the event loop. By hand: the loop then also comes back to
answers of the model, and to what is not limited, within an eighth of the deadline."""
MOST_OCCUPIED = 0.5
"""Share of its time for which the event loop may be busy while it still gives popular lists in place of a model that
can take no more. By hand: the other half of a core goes to the model, which shares the machine."""
LEAST_WAITING = 8
"""Requests that may wait in any case. By hand: a page that asks for several places at once is no overload."""
LEAST_HANDLING_S = 0.0005
"""A request takes the event loop at least half a millisecond (measured: 0.6 to 1.2 ms), so a burst is bounded too."""
LOOK_S, LOOKS_PER_REFRESH = 0.5, 2
"""Seconds between looks for silent connections, and looks between readings of the tokens."""
ALIVE = direct(200, b'{"status":"alive","details":{}}')
OVERLOADED = refusal(503, "overloaded", "too many requests under way; try again later", {"Retry-After": "1"})
"""A second: capacity is back within one or two once a burst is over."""
BODY_TOO_LARGE = direct(413, TOO_LARGE.model_dump_json().encode())
UNAUTHORIZED = refusal(
    401, "unauthorized", "a bearer token is needed: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
)


class Connection(Protocol):
    """What `Front` asks of a connection (`serving.gateway.connection.GatewayConnection`)."""

    def close_after_answer(self) -> None:
        """Let the present answer, or the next one, be the last."""

    def shed(self) -> None:
        """Close, in favour of a new connection."""

    def refuse_at_once(self) -> None:
        """Refuse whatever comes, and close."""

    def look(self, now_s: float) -> None:
        """Close if nothing has come for too long."""


class Front:
    """State that all connections of a gateway process share."""

    def __init__(self, serving: ServingSettings, tokens: Tokens, metrics: Metrics) -> None:
        self.deadline_s = serving.deadline_ms / 1e3
        self.max_connections = serving.max_connections
        self.tokens, self.metrics = tokens, metrics
        self.turns = Turns(floor_s=LEAST_HANDLING_S)
        self.waiting = 0
        """Requests that were admitted and that the event loop has not begun to handle."""
        self.room: Callable[[float], int | None] = lambda deadline_s: None
        """How many requests the champion could take, with so much of their deadline left. None: there is none."""
        self.in_flight = 0
        self.draining = False
        self.beat_s = time.monotonic()
        """When the event loop last had time for housekeeping."""
        self.connections: dict[Connection, None] = {}
        """All open connections, the oldest first."""
        self.fresh: dict[Connection, None] = {}
        """Those that never sent a whole head. Under a flood of half-open connections, they are closed first."""
        self.idle_ones: dict[Connection, None] = {}
        """Those between two requests, the longest idle first."""
        self._refused: dict[int, int] = {}

    def decide(self, scope: dict[str, Any]) -> Direct | None:
        """The answer to a request by its head alone, or None if it is to be handled."""
        path, method = scope["path"], scope["method"]
        if path == "/healthz" and method == "GET":
            return ALIVE
        if not path.startswith(API):
            return None
        if self.tokens.needed and (refused := self._unauthorized(scope)) is not None:
            return self._count(refused)
        if (body_bytes(scope["headers"]) or 0) > MAX_BODY_BYTES:
            return self._count(BODY_TOO_LARGE)
        if self.waiting >= self.limit() or (path == RECOMMENDATIONS and self._only_popular()):
            return self._count(OVERLOADED)
        self.turns.admit()
        return None

    def _only_popular(self) -> bool:
        """Whether a request would only get the popular list, and the event loop has no time to spare for it.

        A popular list costs the loop nearly as much as an answer of the model, which then waits for its turn.
        """
        if self.turns.occupancy() < MOST_OCCUPIED:
            return False
        free = self.room(self.deadline_s)
        return free is not None and self.waiting >= free

    def limit(self) -> int:
        """Requests that may wait for the event loop: part of the deadline ÷ the loop's time for a request."""
        return max(LEAST_WAITING, int(WAITING_SHARE * self.deadline_s / self.turns.request_s))

    def _unauthorized(self, scope: dict[str, Any]) -> Direct | None:
        peer = scope["client"][0] if scope["client"] else ""
        status, wait_s = self.tokens.check(value_of(scope["headers"], b"authorization"), peer)
        if status == 200:
            return None
        if status == 401:
            return UNAUTHORIZED
        later = {"Retry-After": str(math.ceil(wait_s))}
        return refusal(429, "rate_limited", "too many requests with this token, or too many wrong tokens", later)

    def _count(self, refused: Direct) -> Direct:
        self.metrics.refusals.labels(refused.status).inc()
        self._refused[refused.status] = self._refused.get(refused.status, 0) + 1
        return refused

    # --- connections

    def opened(self, connection: Connection) -> None:
        """Take a new connection. Where there is no room, the oldest one that waits for a request makes it."""
        self.connections[connection] = self.fresh[connection] = None
        if len(self.connections) > self.max_connections:
            waiting = next((one for one in (*islice(self.fresh, 1), *islice(self.idle_ones, 1))), connection)
            if waiting is connection:
                connection.refuse_at_once()
            else:
                self.metrics.shed_connections.inc()
                self.closed(
                    waiting
                )  # now, because asyncio says so only later, and the next one is not to choose it too
                waiting.shed()

    def head_arrived(self, connection: Connection) -> None:
        """Note that a connection sent a whole head."""
        self.fresh.pop(connection, None)
        self.idle_ones.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Note that a connection waits for its next request."""
        self.idle_ones[connection] = None

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        for known in (self.connections, self.fresh, self.idle_ones):
            known.pop(connection, None)

    def look(self) -> None:
        """Housekeeping, a few times a second: close connections that have been silent for too long."""
        self.beat_s, now_s = time.monotonic(), time.perf_counter()
        for connection in list(self.connections):
            connection.look(now_s)

    async def watch(self) -> None:
        """Housekeeping for as long as the gateway runs."""
        while True:
            for _ in range(LOOKS_PER_REFRESH):
                self.look()
                await asyncio.sleep(LOOK_S)
            self.tokens.refresh()
            self.report()

    def report(self) -> None:
        """Log how many requests were refused by their head since the last call: one line, however many they are."""
        if self._refused:
            log.warning("refused by their head", statuses={str(status): n for status, n in self._refused.items()})
            self._refused = {}

    def drain(self) -> None:
        """Let every client go elsewhere: /readyz answers 503, and connections close after their next answer."""
        if not self.draining:
            self.draining = True
            log.info("draining", connections=len(self.connections), in_flight=self.in_flight)
        for connection in self.connections:
            connection.close_after_answer()
