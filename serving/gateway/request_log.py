"""One structured log line per request: path, status, seconds, ids, and what was bound to it (request_id, variant, …).

The ids of the request (`serving.gateway.trace`) are in its other lines too, and in the headers of its answer.
"""

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recommender import logs
from serving.gateway import trace, tracing

log = logs.get(__name__)
PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by Kubernetes and Prometheus. They are logged at DEBUG only."""


class RequestLog:
    """ASGI middleware that logs a request when its answer was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and log its path, status and seconds afterwards."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began_s, status = time.perf_counter(), 500
        ids = trace.trace_of(scope["headers"])
        span = tracing.request_span(ids, scope["method"], scope["path"])
        if span is not None:
            ids = span.ids
        trace.remember(ids)

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *ids.headers()]
            await send(message)

        logs.unbind_all()
        logs.bind(**ids.recorded())
        try:
            await self.app(scope, receive, note_status)
        except asyncio.CancelledError:
            # The connection cancels a request whose caller left. Nobody waits for an answer, so this is no failure.
            if (cancelled := scope.get("state", {}).get("cancelled")) is None:
                raise
            status = cancelled
        finally:
            # The route's own path, because a path or query that the client made up may hold anything.
            path = getattr(scope.get("route"), "path", None)
            level = logging.DEBUG if path in PROBES else logging.INFO
            seconds = round(time.perf_counter() - began_s, 6)
            if span is not None:
                span.end(scope["method"], path, status)
            log.log(level, "request", method=scope["method"], path=path, status=status, seconds=seconds)
