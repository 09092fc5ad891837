"""The parent of several gateway processes: binds the port, starts them again, passes signals on, answers about health.

The listening socket is one for all, so a connection that waits in it belongs to nobody: a process that dies takes none
of them along, as it would with a socket of its own (SO_REUSEPORT). Whoever is idle takes the next one.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

from recommender import logs
from recommender.settings import Settings
from serving.answer import Health
from serving.gateway.front import Front
from serving.gateway.health import HUNG_S, HealthServer
from serving.gateway.metrics import Metrics
from serving.gateway.processes import merged
from serving.gateway.processes.channel import Channel
from serving.gateway.processes.child import FIGURES, HEALTH, SERVING
from serving.gateway.server import DRAIN_S, GOODBYE_S
from serving.gateway.tokens import Tokens

log = logs.get(__name__)
ASK_S = 1.0
"""Seconds for a child's answer: far more than its event loop lets anything wait."""
LOOK_S = 2.0
"""Seconds between two questions for each child's figures. What a killed one counted since the last is forgotten."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Pause before a process is started again, doubled with each end in a row. By hand, as for scoring workers."""
STEADY_S = 30.0
"""A process that served for so long ended for a reason of its own: it waits for the first pause only. By hand."""
STOP_S = DRAIN_S + GOODBYE_S + 2.0
"""Seconds for the children to end after SIGTERM: what they take themselves, and for closing files and connections."""


@dataclass(eq=False)
class Child:
    """One gateway process."""

    slot: int
    process: asyncio.subprocess.Process
    channel: Channel
    began_s: float = field(default_factory=time.monotonic)
    serves: bool = False
    heard_s: float = field(default_factory=time.monotonic)
    """When it answered last."""
    figures: merged.Figures = field(default_factory=merged.Figures)


class Parent:
    """Keeps the gateway processes of the settings running."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings, self._listening = settings, listening
        self._wanted = settings.serving.gateway_processes
        self._children: dict[int, Child] = {}
        self._counted = merged.Figures()
        """Totals of processes that ended."""
        self._draining = self._has_served = False
        self._code = 0
        self._end = asyncio.Event()
        metrics = Metrics()
        self._front = Front(settings.serving, Tokens(None, metrics), metrics)

    async def run(self) -> int:
        """Serve until a signal comes. Returns the exit code: not 0, if no process could begin to serve."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        loop.add_signal_handler(signal.SIGUSR1, self._drain)
        health = self._health_server()
        keeping = [asyncio.create_task(self._keep(slot)) for slot in range(self._wanted)]
        watching = asyncio.create_task(self._watch())
        await self._end.wait()
        self._pass_on(signal.SIGTERM)
        _, late = await asyncio.wait(keeping, timeout=STOP_S)
        if late:
            self._pass_on(signal.SIGKILL)
            await asyncio.wait(late)
        watching.cancel()
        if health is not None:
            health.stop()
        return self._code

    def _health_server(self) -> HealthServer | None:
        if self._settings.serving.health_port is None:
            return None
        loop = asyncio.get_running_loop()

        async def figures() -> bytes:
            # Called in the thread of the health port.
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.figures(), loop))

        server = HealthServer(self._settings.serving, self._front, self.health, figures)
        server.start()
        return server

    # --- children

    async def _keep(self, slot: int) -> None:
        """Run one process, and start it again when it ends by itself."""
        pause_s = FIRST_PAUSE_S
        while not self._end.is_set():
            child = await self._start(slot)
            code = await child.process.wait()
            del self._children[slot]
            child.channel.close()
            self._counted.add(child.figures, only_totals=True)
            if self._end.is_set():
                return
            log.warning("gateway process ended", slot=slot, pid=child.process.pid, code=code)
            if not self._has_served:
                # As a gateway without children, which ends with what keeps it from starting.
                self._code = code or 1
                self._end.set()
                return
            steady = child.serves and time.monotonic() - child.began_s > STEADY_S
            pause_s = FIRST_PAUSE_S if steady else min(2 * pause_s, LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), pause_s)

    async def _start(self, slot: int) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "serving.gateway.processes"),
                *(str(slot), str(self._listening.fileno()), str(theirs.fileno())),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(self._listening.fileno(), theirs.fileno()),
            )
        channel = Channel(lambda question: self._answer(slot, question))
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
        self._children[slot] = child = Child(slot, process, channel)
        if self._end.is_set():
            process.send_signal(signal.SIGTERM)
        assert process.stdin is not None
        process.stdin.write(of_a_child(self._settings).model_dump_json().encode())
        process.stdin.close()
        return child

    async def _answer(self, slot: int, question: bytes) -> bytes:
        if question == HEALTH:
            return (await self.health()).model_dump_json().encode()
        if question == FIGURES:
            return await self.figures()
        assert question == SERVING
        child = self._children[slot]  # its first question, so it is the one that was started last
        child.serves, child.heard_s, self._has_served = True, time.monotonic(), True
        log.info("gateway process serves", slot=slot, pid=child.process.pid)
        if self._draining:
            child.process.send_signal(signal.SIGUSR1)
        return b""

    def _drain(self) -> None:
        self._draining = True
        self._pass_on(signal.SIGUSR1)

    def _pass_on(self, number: signal.Signals) -> None:
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(number)

    # --- what they say

    async def health(self) -> Health:
        """The body of /readyz for all processes."""
        asked = await asyncio.gather(*(self._asked(child, HEALTH) for child in self._serving()))
        found = [Health.model_validate_json(content) for content in asked if content is not None]
        return merged.health(found, wanted=self._wanted)

    async def figures(self) -> bytes:
        """The body of /metrics for all processes, with what those that ended had counted."""
        await asyncio.gather(*(self._read(child) for child in self._serving()))
        total = merged.Figures()
        total.add(self._counted)
        for child in self._children.values():
            total.add(child.figures)
        return total.text()

    def _serving(self) -> list[Child]:
        return [child for child in self._children.values() if child.serves]

    async def _read(self, child: Child) -> None:
        content = await self._asked(child, FIGURES)
        if content is not None:
            child.figures = merged.Figures.unpacked(content)

    async def _asked(self, child: Child, question: bytes) -> bytes | None:
        try:
            content = await child.channel.ask(question, within_s=ASK_S)
        except OSError:
            return None  # it has ended, or hangs: `_watch` ends it then
        child.heard_s = time.monotonic()
        return content

    async def _watch(self) -> None:
        """Remember the children's figures, and end one that hangs, for as long as the gateway runs."""
        while True:
            self._front.beat_s = time.monotonic()
            for child in self._serving():
                await self._read(child)
                silent_s = time.monotonic() - child.heard_s
                if silent_s > HUNG_S:
                    log.error("gateway process hangs and is killed", slot=child.slot, pid=child.process.pid)
                    child.process.kill()
            await asyncio.sleep(LOOK_S)


def of_a_child(settings: Settings) -> Settings:
    """The settings of one of several processes: its part of what is bounded for all together."""
    serving = settings.serving
    rate = serving.token_rate_per_s
    part = {
        "gateway_processes": 1,
        "health_port": None,
        "max_connections": max(16, -(-serving.max_connections // serving.gateway_processes)),
        "token_rate_per_s": None if rate is None else rate / serving.gateway_processes,
    }
    return settings.updated(serving=part)


def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve with several processes until a signal comes."""

    async def run() -> int:
        return await Parent(settings, listening).run()

    code = asyncio.run(run())
    if code:
        sys.exit(code)
