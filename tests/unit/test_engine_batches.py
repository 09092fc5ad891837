"""Requests that wait for a version leave together, each with its own deadline, answer and status."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serving import wire
from serving.engines.batches import MOST_BYTES, MOST_TOGETHER, SLOW_S, Lane, Pace
from serving.engines.contract import EngineError, Reply


class Server:
    """Answers bodies when it is told to, each request with its own body and a status of its length."""

    def __init__(self) -> None:
        self.bodies: list[list[bytes]] = []
        self.given_up: list[int] = []
        self._may: list[asyncio.Event] = []
        self.problem: str | None = None

    async def post(self, body: bytes) -> Reply:
        place, may = len(self.bodies), asyncio.Event()
        is_batch = body[:1] == wire.BATCH
        self.bodies.append(wire.decode_batch(body) if is_batch else [body])
        self._may.append(may)
        try:
            await may.wait()
        except asyncio.CancelledError:
            self.given_up.append(place)
            raise
        if self.problem is not None:
            raise EngineError(self.problem)
        answers = [(200 + len(one), one) for one in self.bodies[place]]
        now_s = time.perf_counter()
        return Reply(200, wire.encode_answers(answers), now_s) if is_batch else Reply(*answers[0], now_s)

    async def answer(self, place: int) -> None:
        self._may[place].set()
        await turns()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def quick(most: int) -> Pace:
    pace = Pace(most)
    for _ in range(50):
        pace.measured(SLOW_S / 100, 1)
    return pace


def on_a_lane(
    pace: Pace, story: Callable[[Lane, Server, Callable[[bytes], asyncio.Task[Reply]]], Awaitable[None]]
) -> None:
    async def told() -> None:
        server = Server()
        lane = Lane(server.post, pace)

        def ask(body: bytes) -> asyncio.Task[Reply]:
            return asyncio.get_running_loop().create_task(lane.score(body))

        await story(lane, server, ask)
        assert lane.is_idle

    asyncio.run(asyncio.wait_for(told(), 20))


def test_what_arrives_in_one_turn_of_the_loop_leaves_at_its_end_together() -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        tasks = [ask(b"x" * length) for length in range(1, 4)]
        await turns()
        assert server.bodies == [[b"x", b"xx", b"xxx"]]
        await server.answer(0)
        assert [(await task).status for task in tasks] == [201, 202, 203]

    on_a_lane(quick(2), story)


def test_what_waits_leaves_together_when_an_answer_returns_and_each_gets_its_own() -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        tasks = [ask(b"x")]
        await turns()
        tasks += [ask(b"x" * length) for length in range(2, 6)]
        await turns()
        assert server.bodies == [[b"x"]]
        await server.answer(0)
        assert server.bodies[1] == [b"xx", b"xxx", b"xxxx", b"xxxxx"]
        await server.answer(1)
        replies = await asyncio.gather(*tasks)
        assert [(reply.status, reply.body) for reply in replies] == [(200 + n, b"x" * n) for n in range(1, 6)]

    on_a_lane(quick(2), story)


def test_an_idle_version_gets_each_request_at_once() -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        for place in range(3):
            task = ask(b"one")
            await turns()
            assert len(server.bodies) == place + 1
            await server.answer(place)
            assert (await task).body == b"one"

    on_a_lane(quick(2), story)


def test_where_requests_take_long_every_worker_has_a_body() -> None:
    pace = quick(3)
    for _ in range(50):
        pace.measured(5 * SLOW_S, 1)

    async def story(lane: Lane, server: Server, ask: Any) -> None:
        tasks = [ask(b"x" * length) for length in range(1, 6)]
        await turns()
        assert server.bodies == [[b"x", b"xx"], [b"xxx", b"xxxx"], [b"xxxxx"]]
        for place in range(3):
            await server.answer(place)
        await asyncio.gather(*tasks)

    assert pace.most_under_way == 3
    on_a_lane(pace, story)


def test_a_caller_that_leaves_while_it_waits_is_not_sent_and_one_of_a_batch_takes_nothing_from_the_others() -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        first = ask(b"1")
        await turns()
        waits, leaves, stays = (ask(body) for body in (b"22", b"333", b"4444"))
        await turns()
        waits.cancel()
        await turns()
        await server.answer(0)
        assert server.bodies[1] == [b"333", b"4444"]
        leaves.cancel()
        await turns()
        assert server.given_up == []
        await server.answer(1)
        assert (await stays).body == b"4444"
        assert (await first).body == b"1"

    on_a_lane(quick(1), story)


def test_a_body_for_which_nobody_waits_is_taken_back() -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        tasks = [ask(b"x")]
        await turns()
        tasks += [ask(b"x" * length) for length in range(2, 4)]
        await turns()
        tasks[0].cancel()
        await turns()
        assert server.given_up == [0]
        assert server.bodies[1] == [b"xx", b"xxx"]
        for task in tasks[1:]:
            task.cancel()
        await turns()
        assert server.given_up == [0, 1]

    on_a_lane(quick(1), story)


def test_a_batch_that_is_lost_fails_everybody_and_counts_as_one_failure_of_the_version() -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        tasks = [ask(b"x")]
        await turns()
        tasks += [ask(b"x" * length) for length in range(2, 5)]
        await turns()
        await server.answer(0)
        server.problem = "the worker ended"
        await server.answer(1)
        found = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert [(str(one), one.counts) for one in found if isinstance(one, EngineError)] == [
            ("the worker ended", True),
            ("the worker ended", False),
            ("the worker ended", False),
        ]

    on_a_lane(quick(1), story)


@pytest.mark.parametrize(("size", "together"), [(10, MOST_TOGETHER), (MOST_BYTES // 3, 3), (2 * MOST_BYTES, 1)])
def test_a_body_holds_only_so_many_requests_and_bytes(size: int, together: int) -> None:
    async def story(lane: Lane, server: Server, ask: Any) -> None:
        tasks = [ask(b"x" * size) for _ in range(2 * MOST_TOGETHER)]
        await turns()
        place = 0
        while not all(task.done() for task in tasks):
            await server.answer(place)
            place += 1
        assert max(map(len, server.bodies)) == together
        assert sum(map(len, server.bodies)) == len(tasks)

    on_a_lane(quick(1), story)


@pytest.mark.parametrize("answer", [b"", b"{}", wire.encode_answers([(200, b"one")])])
def test_an_answer_that_is_none_of_the_batch_is_an_error_for_all_of_it(answer: bytes) -> None:
    async def told() -> None:
        may = asyncio.Event()

        async def post(body: bytes) -> Reply:
            await may.wait()
            return Reply(200, answer, time.perf_counter())

        lane = Lane(post, quick(1))
        tasks = [asyncio.get_running_loop().create_task(lane.score(b"body")) for _ in range(3)]
        await turns()
        may.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [EngineError, EngineError, EngineError]

    asyncio.run(told())
