"""One of several gateway processes: serves on the socket that it inherited, and tells its parent how it is."""

import asyncio
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

from recommender import logs
from recommender.settings import settings_from_json
from serving import config
from serving.answer import Health
from serving.gateway.app import Gateway, create
from serving.gateway.processes.channel import Channel
from serving.gateway.processes.merged import Figures
from serving.gateway.server import GatewayServer, accepting, configured

ASK_S = 2.5
"""Seconds for the parent's answer: below the 3 s that the readiness probe of k8s/base/serving.yaml waits."""
SERVING, HEALTH, FIGURES = b"serving", b"health", b"figures"
"""Questions. A child says that it serves; both sides ask for health and figures: of the child, or of all processes."""


@dataclass
class Whole:
    """The gateway as its parent knows it: all processes together."""

    channel: Channel | None = None

    async def health(self) -> Health:
        """The body of /readyz."""
        try:
            return Health.model_validate_json(await self._asked(HEALTH))
        except OSError as error:
            return Health(status=f"the gateway's parent process does not answer: {error}")

    async def figures(self) -> bytes:
        """The body of /metrics."""
        return await self._asked(FIGURES)

    async def _asked(self, question: bytes) -> bytes:
        if self.channel is None:
            raise ConnectionResetError("not connected yet")
        return await self.channel.ask(question, within_s=ASK_S)


class ChildServer(GatewayServer):
    """Serves until its parent is gone or sends SIGTERM."""

    def __init__(self, control: socket.socket, whole: Whole, gateway: Gateway, **of_server: Any) -> None:
        super().__init__(**of_server)
        self._control, self._whole, self._gateway = control, whole, gateway

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and tell the parent."""
        await super().startup(sockets)
        channel = Channel(self._answer, self._orphaned)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=self._control)
        self._whole.channel = channel
        await channel.ask(SERVING, within_s=ASK_S)

    async def _answer(self, question: bytes) -> bytes:
        if question == HEALTH:
            return (await self._gateway.health()).model_dump_json().encode()
        return Figures.of(self._gateway.observed().registry).packed()

    def _orphaned(self) -> None:
        self.should_exit = True


def main() -> None:
    """Serve until the parent says otherwise. The settings come over stdin, so all children have the same ones."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the parent asks again once this process serves
    slot, listening, control = (int(word) for word in sys.argv[1:4])
    settings = settings_from_json(sys.stdin.read())
    logs.configure(process=f"gateway-{slot}", file=config.log_file(settings, f"gateway-{slot}"))
    whole = Whole()
    application = create(settings, whole)
    server = ChildServer(
        socket.socket(fileno=control),
        whole,
        application.state.gateway,
        configured=configured(settings, application),
        front=application.state.front,
    )
    server.run(accepting(socket.socket(fileno=listening)))
