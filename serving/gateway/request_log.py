"""One structured log line per request: path, status, seconds, ids, and what was bound to it (request_id, variant, …).

The ids of the request (`serving.gateway.trace`) are in its other lines too, and in the headers of its answer.
"""

import asyncio
import logging
import time
from types import TracebackType
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recommender import logs
from serving.gateway import trace, tracing

log = logging.getLogger(__name__)
PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by Kubernetes and Prometheus. They are logged at DEBUG only."""


class Line:
    """A block that handles one request, whose line is written at its end. `status` is what the client gets."""

    __slots__ = ("_began_s", "_scope", "_span", "ids", "route", "status")

    def __init__(self, scope: Scope, route: str | None = None) -> None:
        self._scope, self._began_s, self.status = scope, time.perf_counter(), 500
        self.route = route
        """The route's own path, because a path or query that the client made up may hold anything. None: unknown."""
        self.ids = trace.trace_of(scope["headers"])
        self._span = tracing.request_span(self.ids, scope["method"], scope["path"])
        if self._span is not None:
            self.ids = self._span.ids

    def __enter__(self) -> Self:
        trace.remember(self.ids)
        logs.rebind(**self.ids.recorded())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        # The connection cancels a request whose caller left. Nobody waits for an answer, so this is no failure.
        cancelled = self._scope.get("state", {}).get("cancelled") if kind is asyncio.CancelledError else None
        if cancelled is not None:
            self.status = cancelled
        seconds = round(time.perf_counter() - self._began_s, 6)
        method = self._scope["method"]
        if self._span is not None:
            self._span.end(method, self.route, self.status)
        level = logging.DEBUG if self.route in PROBES else logging.INFO
        logs.write(log, level, "request", method=method, path=self.route, status=self.status, seconds=seconds)
        return cancelled is not None


class RequestLog:
    """ASGI middleware that logs a request when its answer was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and log its path, status and seconds afterwards."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with Line(scope) as line:

            async def note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    line.status = message["status"]
                    message["headers"] = [*message.get("headers", ()), *line.ids.headers()]
                await send(message)

            try:
                await self.app(scope, receive, note_status)
            finally:
                line.route = getattr(scope.get("route"), "path", None)
