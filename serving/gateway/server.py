"""Runs the gateway's application in uvicorn, with bounded connections, a drain state and a port for health."""

import asyncio
import resource
import signal
import socket
import threading
from functools import partial

import uvicorn
from fastapi import FastAPI

from recommender import logs
from recommender.settings import Settings
from serving.gateway.app import create
from serving.gateway.connection import GatewayConnection
from serving.gateway.front import Front

DRAIN_S = 15
"""Seconds for requests in flight after a stop signal: many deadlines, and within a pod's grace period of 60 s."""
GOODBYE_S = 1.0
"""Seconds after a stop signal for which kept connections may still send a request, which is answered with
`Connection: close`. Closed at once, they would fail the requests that are on their way."""
OTHER_FILES = 256
"""Files and sockets beside those of clients: the store's, the model's, logs. Far more than there are."""
ACCEPTS = 16
"""Times that the listening socket is watched. libuv takes one new connection from each in a turn of its event loop, so
with a single one a flood would let new clients wait for one long turn each."""

log = logs.get(__name__)


class GatewayServer(uvicorn.Server):
    """Drains on SIGUSR1, which a preStop hook sends, and at the latest on SIGTERM."""

    def __init__(self, configured: uvicorn.Config, front: Front) -> None:
        super().__init__(configured)
        self.front = front

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and to watch for the signal to drain."""
        await super().startup(sockets)
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.front.drain)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let kept ones send a last request, finish what is in flight, and end."""
        self.front.drain()
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + GOODBYE_S
        while self.front.connections and loop.time() < ends_s:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def prepare(settings: Settings) -> tuple[GatewayServer, list[socket.socket]]:
    """The gateway's server and the sockets for its `run`, bound to the gateway's port."""
    app = create(settings)
    chosen = configured(settings, app)
    return GatewayServer(chosen, app.state.front), accepting(chosen.bind_socket())


def configured(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves the gateway's application."""
    front: Front = app.state.front
    front.max_connections = connections_allowed(front.max_connections)
    return uvicorn.Config(
        app,
        host=settings.serving.host,
        port=settings.serving.port,
        loop="uvloop",
        http=partial(GatewayConnection, front=front),  # type: ignore[arg-type]
        ws="none",
        proxy_headers=False,  # whoever sends them could choose the peer that a limit counts
        # Its loggers go through ours, and `RequestLog` writes the line of a request.
        log_config=None,
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )


def accepting(listening: socket.socket) -> list[socket.socket]:
    """The listening socket as often as the event loop is to watch it."""
    # `dup` copies the mode of its socket to the kernel's one, which other gateway processes share. For as long as it
    # blocks, one of them that looks for a connection which another one has taken stands still.
    listening.setblocking(False)
    return [listening, *(listening.dup() for _ in range(ACCEPTS - 1))]


def connections_allowed(wanted: int) -> int:
    """As many of the wanted connections as the process may open files for. Raises its own limit where it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = min(wanted, soft - OTHER_FILES)
    if allowed < wanted:
        log.warning("fewer connections than max_connections", allowed=allowed, open_files=soft)
    return allowed
