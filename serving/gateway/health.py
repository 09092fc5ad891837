"""Health and metrics on a port of their own, answered by a thread of their own.

On the gateway's port a probe waits behind whatever the event loop does. Here it waits only for Python's global lock, a
few milliseconds, so a busy gateway is not taken for a dead one. A loop that hangs is: see `HUNG_S`.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from recommender.settings import ServingSettings
from serving.answer import READY, Health
from serving.gateway.connection import GatewayConnection
from serving.gateway.direct import Direct
from serving.gateway.front import Front

HUNG_S = 30.0
"""Seconds without housekeeping on the event loop after which /healthz answers 503. It is due twice a second; a restart
helps only a process that hangs for good."""
READY_S = 2.8
"""Within the 3 s that the readiness probe of k8s/base/serving.yaml waits, above `readiness.TIMEOUT_S`."""
MOST_PROBES = 64
"""Connections to the port. A kubelet, Prometheus and a few people."""
JSON, TEXT = b"application/json", b"text/plain; version=0.0.4"


class ProbeFront(Front):
    """Bounds heads and silent connections as the gateway does, and answers nothing by the head alone.

    The gateway's own answer to /healthz says nothing about its event loop, because that loop gives it.
    """

    def decide(self, scope: dict[str, Any]) -> Direct | None:
        """None: `HealthServer` answers every request."""
        return None


class HealthServer:
    """Answers /healthz, /readyz and /metrics from a thread."""

    def __init__(
        self,
        serving: ServingSettings,
        front: Front,
        ready: Callable[[], Awaitable[Health]],
        figures: Callable[[], Awaitable[bytes]],
    ) -> None:
        assert serving.health_port is not None
        self._front, self._ready, self._figures = front, ready, figures
        self._loop = asyncio.get_running_loop()
        own = ProbeFront(serving.model_copy(update={"max_connections": MOST_PROBES}), front.tokens, front.metrics)
        self._own = own
        config = uvicorn.Config(
            self._answer,
            host=serving.host,
            port=serving.health_port,
            loop="uvloop",
            http=partial(GatewayConnection, front=own),  # type: ignore[arg-type]
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="health", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end by itself, soon."""
        self._server.should_exit = True

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, kind, body = await self._content(scope["path"])
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._own.look()

    async def _content(self, path: str) -> tuple[int, bytes, bytes]:
        if path == "/healthz":
            silent_s = time.monotonic() - self._front.beat_s
            hung = silent_s > HUNG_S
            status = f"the event loop has been busy for {silent_s:.0f} s" if hung else "alive"
            return 503 if hung else 200, JSON, Health(status=status).model_dump_json().encode()
        if path == "/readyz":
            health = await self._asked()
            return 200 if health.status == READY else 503, JSON, health.model_dump_json().encode()
        if path == "/metrics":
            return 200, TEXT, await self._figures()
        return 404, JSON, b'{"error":"not_found","message":"Not Found","fields":[]}'

    async def _asked(self) -> Health:
        """What /readyz of the gateway says, asked on its event loop."""
        asked = asyncio.run_coroutine_threadsafe(self._awaited(), self._loop)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), READY_S)
        except TimeoutError:
            return Health(status=f"no answer of the event loop within {READY_S} s")

    async def _awaited(self) -> Health:
        return await self._ready()
