"""Requests that wait for a version leave together, as one body.

While a version has enough to do, requests gather, and when an answer returns they leave. Nothing waits for a timer: an
idle version gets what arrived in one turn of the event loop, at its end.

A body costs the model server as much as a request does, and a batch costs the ranker hardly more than one user.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from serving import wire
from serving.engines.contract import EngineError, Reply

MOST_TOGETHER = 16
"""Requests in one body, at most: some milliseconds of a worker, for which the first waits with the last. By hand."""
SLOW_S = 0.004
"""A gateway process passes on a request a millisecond, at most. By hand, above what a worker takes for one whose ranker
is a regression, also on a busy machine, and below what a transformer takes."""
SMOOTHING = 0.1
"""Weight of the newest measurement."""
MOST_BYTES = 524_288
"""A body grows no further beyond this, so that a few users with long histories do not exceed a server's limit."""


class Asked:
    """One request on its way to an answer."""

    __slots__ = ("answer", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()


class Batch:
    """Requests that share one body."""

    __slots__ = ("asked", "began_s")

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked = asked
        self.began_s = 0.0
        """When a worker came to it, where the engine knows that."""

    @classmethod
    def of(cls, waiting: deque[Asked], bodies: int) -> "Batch | None":
        """Take the next requests from those that wait, without those whose callers have left.

        Args:
            waiting: the requests, the oldest first.
            bodies: how many bodies may leave now. The requests are spread over them.
        """
        most = min(MOST_TOGETHER, -(-len(waiting) // bodies))
        taken: list[Asked] = []
        num_bytes = 0
        while waiting and len(taken) < most:
            if waiting[0].answer.done():
                waiting.popleft()
                continue
            num_bytes += len(waiting[0].body)
            if taken and num_bytes > MOST_BYTES:
                break
            taken.append(waiting.popleft())
        return cls(taken) if taken else None

    @property
    def body(self) -> bytes:
        """What a worker gets."""
        if len(self.asked) == 1:
            return self.asked[0].body
        return wire.encode_batch([one.body for one in self.asked])

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for any of its answers."""
        return all(one.answer.done() for one in self.asked)

    def deliver(self, reply: Reply) -> None:
        """Hand each request its answer. One of the whole body that is none of a batch is everybody's."""
        if len(self.asked) == 1 or reply.status != 200:
            replies = [reply] * len(self.asked)
        else:
            try:
                answers = wire.decode_answers(reply.body)
            except ValueError as error:
                self.fail(f"the answer cannot be read: {error}")
                return
            if len(answers) != len(self.asked):
                self.fail(f"{len(self.asked)} requests have {len(answers)} answers")
                return
            replies = [Reply(status, document, reply.arrived_s) for status, document in answers]
        for one, own in zip(self.asked, replies, strict=True):
            if not one.answer.done():
                one.answer.set_result(own)

    def fail(self, problem: str) -> None:
        """Tell everybody that there is no answer. It is one failure of the version, however many shared the body."""
        for place, one in enumerate(self.asked):
            if not one.answer.done():
                one.answer.set_exception(EngineError(problem, counts=place == 0))


class Pace:
    """How many bodies a version should have at once, by how long it takes for a request.

    Where one worker keeps up with a gateway process, a second body under way is only a batch less. Where requests take
    long, all workers should have some.
    """

    def __init__(self, most: int) -> None:
        self._most, self._mean_s = most, SLOW_S

    @property
    def most_under_way(self) -> int:
        """Bodies at once."""
        return 1 if self._mean_s < SLOW_S else self._most

    def measured(self, took_s: float, number: int) -> None:
        """Take note that the answers to `number` requests of one body came after `took_s` seconds."""
        self._mean_s += SMOOTHING * (took_s / number - self._mean_s)


class Lane:
    """The way of requests to one version of a model server."""

    def __init__(self, post: Callable[[bytes], Awaitable[Reply]], pace: Pace) -> None:
        """Open the way.

        Args:
            post: sends a body, and returns its answer or raises `EngineError`. Cancelled, it takes the body back.
            pace: how many bodies may be at the server at once.
        """
        self._post, self._pace = post, pace
        self._waiting: deque[Asked] = deque()
        self._under_way, self._scheduled = 0, False
        self._sending: dict[Asked, tuple[Batch, asyncio.Task[None]]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way or waits."""
        return not self._under_way and not self._waiting

    async def score(self, body: bytes) -> Reply:
        """The answer to one request, see `Scoring.score`."""
        asked = Asked(body)
        self._waiting.append(asked)
        if not self._scheduled:
            # After what else the event loop has to do now: requests that arrived at once leave at once.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)
        try:
            return await asked.answer
        finally:
            batch, task = self._sending.pop(asked, (None, None))
            if batch is not None and task is not None and batch.is_given_up:
                task.cancel()  # one that has delivered is done, or ends with its next step

    def _dispatch(self) -> None:
        self._scheduled = False
        while (free := self._pace.most_under_way - self._under_way) > 0:
            batch = Batch.of(self._waiting, free)
            if batch is None:
                return
            self._under_way += 1
            task = asyncio.get_running_loop().create_task(self._send(batch))
            for one in batch.asked:
                self._sending[one] = (batch, task)

    async def _send(self, batch: Batch) -> None:
        try:
            began_s = time.perf_counter()
            reply = await self._post(batch.body)
            self._pace.measured(reply.arrived_s - began_s, len(batch.asked))
            batch.deliver(reply)
        except EngineError as error:
            batch.fail(str(error))
        finally:
            batch.fail("the request was given up")  # whoever still waits, which is nobody unless there is an error here
            self._under_way -= 1
            self._dispatch()
