"""One client connection: uvicorn's HTTP protocol with bounds on the head, a deadline from the first byte, and refusals.

It extends `HttpToolsProtocol` because that leaves a head without bounds, starts no clock before the application runs,
and answers what it cannot parse in plain text. `tests/serving/test_heads.py` holds it to the uvicorn that is installed.
"""

import asyncio
import select
import time
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.gateway.arrival import Arrival
from serving.gateway.direct import Direct, refusal
from serving.gateway.front import OVERLOADED, Front
from serving.gateway.head import HEAD_TIMEOUT_S, MAX_HEAD_BYTES, MAX_HEADERS, Headers, body_bytes, framing_problem
from serving.gateway.intake import MAX_DRAINED_BYTES
from serving.gateway.lingering import KeptOpen
from serving.gateway.trace import echoed
from serving.request import MAX_BODY_BYTES

MAX_PIPELINED = 16
"""Requests that one connection may send ahead. Clients of an API hardly ever send one."""
LINGER_S = 2.0
"""Seconds for which bytes behind a refusal are read and dropped, so that the client can read it before its connection
is reset. They are `MAX_DRAINED_BYTES` at most."""
KEEP_ALIVE_S = 75.0
"""Seconds for which an idle connection stays: above the 60 s after which load balancers close theirs."""
MESSAGE_TIMEOUT_S = 30.0
"""Seconds from the first byte after which a body that still arrives is cut off. `intake.read_body` refuses at 10 s."""
HUNG_UP = 499
"""What nginx logs when a client hangs up. No client ever sees it."""
TOO_LARGE = refusal(431, "head_too_large", f"at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers")
LATE_HEAD = refusal(408, "timeout", f"the head did not arrive within {HEAD_TIMEOUT_S:.0f} s")


class _BadHead(Exception):
    """Ends the parser's work in the middle of a head."""


class GatewayConnection(HttpToolsProtocol):
    """A connection of a client of the gateway."""

    def __init__(self, *, front: Front, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.front = front
        self.active: RequestResponseCycle | None = None
        """The request that is being handled."""
        self._task: asyncio.Task[None] | None = None
        self._problem: Direct | None = None
        self._in_head = True
        self._head_bytes = 0
        self._message_ended = False
        """Whether a message ended in the bytes that are being parsed."""
        self._message_began_s: float | None = time.perf_counter()
        """When the message that arrives began. On a new connection its opening counts. None: nothing arrives."""
        self._arrived_s = self._idle_since_s = 0.0
        self._plain_left: int | None = None
        """Bytes of a body that still come without the parser. None: it parses."""
        self._lingers_since_s: float | None = None
        self._dropped_bytes = 0
        self._files = select.poll()

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a new connection: asyncio calls this."""
        super().connection_made(transport)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self._files.register(socket.fileno(), select.POLLRDHUP)
        self.front.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the work for a client that hung up."""
        active, self.active = self.active, None
        self.pipeline.clear()
        super().connection_lost(exc)
        self.front.closed(self)
        if active is not None and not active.response_complete:
            active.disconnected = True
            self.front.metrics.refusals.labels(HUNG_UP).inc()
            self._cancel(active, HUNG_UP)

    def caller_left(self) -> bool:
        """Whether the client has hung up, even if the event loop was not told yet."""
        return bool(self.transport.is_closing() or self._files.poll(0))

    def whole_body(self) -> bytes | None:
        """The body of the request that is being handled, once all of it arrived."""
        cycle = self.active
        return None if cycle is None or cycle.more_body else bytes(cycle.body)

    def reply(self, status: int, headers: Headers, body: bytes) -> bool:
        """Answer the request that is being handled with one write, where `RequestResponseCycle.send` needs two.

        uvloop hands each write to the kernel at once, so two of them wake the client twice.
        """
        cycle = self.active
        if cycle is None or cycle.response_started or cycle.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        lines = [STATUS_LINE[status]]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        lines += (b"content-length: %d\r\n" % len(body), b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        lines.append(body)
        cycle.transport.write(b"".join(lines))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()  # which `_linger` may have put off
        self.on_response_complete()
        return True

    def close_after_answer(self) -> None:
        """Let the present answer, or the next one, be the last of this connection."""
        if self.active is not None and not self.active.response_started:
            self.active.keep_alive = False

    def shed(self) -> None:
        """Close a connection that waits for a request, in favour of a new one."""
        self.transport.abort()

    def refuse_at_once(self) -> None:
        """Refuse a connection for which there is no room."""
        self._refuse(OVERLOADED)

    def look(self, now_s: float) -> None:
        """Close the connection if it has been idle, half-open or lingering for too long."""
        began_s = self._message_began_s
        if self._lingers_since_s is not None:
            if self.active is None and now_s - self._lingers_since_s > LINGER_S:
                self.transport.abort()
        elif began_s is not None:
            if self._in_head and now_s - began_s > HEAD_TIMEOUT_S:
                if self._head_bytes:
                    self._refuse(LATE_HEAD)
                else:
                    self.transport.close()
            elif now_s - began_s > MESSAGE_TIMEOUT_S:
                self.transport.abort()
        elif self.active is None and now_s - self._idle_since_s > KEEP_ALIVE_S:
            self.transport.close()

    # --- bytes in

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, within the bounds."""
        if self._lingers_since_s is not None:
            self._drop(len(data))
            return
        self._arrived_s = self.front.turns.arrived_s()
        if self._message_began_s is None:
            self._message_began_s = self._arrived_s
        try:
            while data and self._lingers_since_s is None:
                data = self._parse(data) if self._plain_left is None else self._take(data, self._plain_left)
        except httptools.HttpParserError:
            self._refuse(self._problem or refusal(400, "bad_request", "this is not a request of HTTP/1.1"))

    def _parse(self, data: bytes) -> bytes:
        """Parse what may be parsed at once, and return the rest."""
        in_head, self._message_ended = self._in_head, False
        room = MAX_HEAD_BYTES - self._head_bytes if in_head else len(data)
        part, rest = (data, b"") if room >= len(data) else (data[:room], data[room:])
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as error:
            return self._without_upgrade(part[error.args[0] :] + rest)
        if in_head and self._in_head and not self._message_ended:
            self._head_bytes += len(part)
            if self._head_bytes >= MAX_HEAD_BYTES:
                self._refuse(TOO_LARGE)
        return rest

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Answer a request as if it had not asked for another protocol, and close. `rest` is what was not parsed.

        Java's client asks for HTTP/2 this way unless it is told not to. The parser leaves the body to whoever speaks
        the other protocol, so the body is taken here.
        """
        length = body_bytes(self.headers)
        if length is None:
            self._refuse(refusal(400, "bad_request", "a request with a chunked body cannot ask for another protocol"))
            return b""
        self.close_after_answer()
        self._plain_left = length
        return rest if length else self._take(b"", 0)

    def _take(self, data: bytes, left: int) -> bytes:
        """Take what belongs to a body that the parser left alone."""
        part = data[:left]
        self._plain_left = left - len(part)
        self.on_body(part)
        if self._plain_left == 0:
            super().on_message_complete()
            self._message_began_s = None
            self._linger()
        return b""

    def on_message_begin(self) -> None:
        """Start the clock of a request: the parser calls this at its first byte."""
        if self._lingers_since_s is not None:
            raise _BadHead  # behind an answer that closes the connection, in the same bytes as its request
        super().on_message_begin()
        self._message_began_s = self._arrived_s
        arrival = Arrival(
            deadline_s=self.front.deadline_s,
            at_s=self._arrived_s,
            caller_left=self.caller_left,
            whole_body=self.whole_body,
            reply=self.reply,
        )
        cast(dict[str, Any], self.scope)["state"]["arrival"] = arrival

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the headers."""
        if len(self.headers) >= MAX_HEADERS:
            self._problem = TOO_LARGE
            raise _BadHead
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head before anything is made of it."""
        problem = framing_problem(self.headers, self.parser.get_http_version())
        if problem is None and len(self.pipeline) >= MAX_PIPELINED:
            problem = f"at most {MAX_PIPELINED} requests may be sent ahead"
        if problem is not None:
            self._problem = refusal(400, "bad_request", problem)
            raise _BadHead
        self._in_head = False
        self.front.head_arrived(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Be ready for the next head."""
        if self.parser.should_upgrade():
            return  # it is not: see `_without_upgrade`
        super().on_message_complete()
        self._in_head, self._head_bytes, self._message_ended = True, 0, True
        self._message_began_s = None

    # --- requests

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Answer by the head alone, or hand the request to the application."""
        scope = cast(dict[str, Any], cycle.scope)
        if self.front.draining:
            cycle.keep_alive = False
        answer = self.front.decide(scope)
        if answer is not None:
            self._answer_directly(cycle, answer)
            return
        self.active = cycle
        self.front.waiting += 1
        # Counted by a callback of its own, because a task that is cancelled early never begins.
        self.loop.call_soon(self._waited)
        self.front.in_flight += 1
        task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        task.add_done_callback(self._task_ended)
        self._task = task

    def _waited(self) -> None:
        self.front.waiting -= 1

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.front.in_flight -= 1

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, or let it be idle."""
        # As uvicorn's, without its timer: `look` closes idle connections, so that a request needs no timer.
        self.active = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._lingers_since_s is not None:
            self._linger()
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since_s = time.perf_counter()
            self.front.idle(self)

    def _answer_directly(self, cycle: RequestResponseCycle, answer: Direct) -> None:
        length = body_bytes(cycle.scope["headers"])  # type: ignore[arg-type]
        # A small body is parsed and dropped with the connection's next bytes. A large one is not waited for.
        keeps = cycle.keep_alive and length is not None and length <= MAX_BODY_BYTES and not self.expect_100_continue
        cycle.response_started = cycle.response_complete = True
        self.transport.write(answer.written(echoed(cycle.scope["headers"]), keeps=keeps))
        if keeps:
            self.on_response_complete()
        else:
            self._linger()

    # --- the end of a connection

    def _refuse(self, answer: Direct) -> None:
        """Answer what cannot be handled, and close. Behind a request that is being handled, only its answer is sent."""
        if self._lingers_since_s is not None:
            return  # the last answer was written
        active = self.active
        self.pipeline.clear()
        if active is not None and not active.more_body:
            self.close_after_answer()
            self._linger()
            return
        if active is not None:
            active.disconnected = True
            self._cancel(active, answer.status)
        self.front.metrics.refusals.labels(answer.status).inc()
        if not self.transport.is_closing():
            self.transport.write(answer.closing)
        self._linger()

    def _linger(self) -> None:
        """Close the connection once the client had time to read the answer; drop what it still sends."""
        self._lingers_since_s = time.perf_counter()
        if self.active is not None:
            self.active.transport = cast(asyncio.Transport, KeptOpen(self.transport))
        elif not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()

    def _drop(self, count: int) -> None:
        self._dropped_bytes += count
        if self._dropped_bytes > MAX_DRAINED_BYTES:
            self.transport.abort()

    def _cancel(self, cycle: RequestResponseCycle, status: int) -> None:
        """End the work on a request that nobody waits for."""
        self.active = None
        if self._task is not None and not self._task.done():
            cast(dict[str, Any], cycle.scope)["state"]["cancelled"] = status
            self._task.cancel()
