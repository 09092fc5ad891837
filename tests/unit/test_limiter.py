"""The limit of work in flight, on simulated servers."""

import heapq

from serving.gateway.limiter import Limiter

DEADLINE_S, FLOOR_S = 0.25, 0.0005


def limiter() -> Limiter:
    return Limiter(share=0.5, least=2, floor_s=FLOOR_S)


def simulate(limited: Limiter, *, rate: float, service_s: float, workers: int, seconds: float) -> list[float]:
    """Requests arrive evenly at a first-in-first-out server. Returns the seconds that each admitted one took."""
    free_s = [0.0] * workers
    ends: list[tuple[float, float, int]] = []
    took = []
    for number in range(int(rate * seconds)):
        now_s = number / rate
        while ends and ends[0][0] <= now_s:
            end_s, began_s, before = heapq.heappop(ends)
            limited.end(before, end_s - began_s)
            took.append(end_s - began_s)
        if limited.admits(DEADLINE_S):
            end_s = max(heapq.heappop(free_s), now_s) + service_s
            heapq.heappush(free_s, end_s)
            heapq.heappush(ends, (end_s, now_s, limited.begin()))
    return took


def test_what_is_admitted_at_three_times_the_capacity_is_in_time_and_the_server_never_idles() -> None:
    for workers, service_s in ((1, 0.002), (4, 0.02)):
        capacity = workers / service_s
        limited = limiter()
        took = simulate(limited, rate=3 * capacity, service_s=service_s, workers=workers, seconds=20)
        late = took[len(took) // 10 :]
        assert max(late) < DEADLINE_S
        assert len(took) / 20 > 0.95 * capacity
        assert 0.5 * service_s / workers < limited.service_s < 2 * service_s / workers


def test_a_lightly_loaded_server_refuses_nobody() -> None:
    took = simulate(limiter(), rate=50, service_s=0.01, workers=1, seconds=10)
    assert len(took) >= 498


def test_a_server_that_hangs_gets_no_more_than_the_least_after_a_few_deadlines() -> None:
    limited = limiter()
    for _ in range(4):
        places = []
        while limited.admits(DEADLINE_S) and len(places) < 200:
            places.append(limited.begin())
        for before in places:
            limited.end(before, DEADLINE_S, finished=False)
    assert limited.limit(DEADLINE_S) <= 5
    assert limited.in_flight == 0


def test_it_admits_more_again_once_the_server_is_fast() -> None:
    limited = limiter()
    limited.service_s = 0.125
    for _ in range(60):
        limited.end(limited.begin(), 0.003)
    assert limited.limit(DEADLINE_S) > 30


def test_one_stall_changes_little() -> None:
    limited = limiter()
    for _ in range(50):
        limited.end(limited.begin(), 0.002)
    before = limited.limit(DEADLINE_S)
    limited.end(limited.begin(), 10.0)
    assert limited.limit(DEADLINE_S) > 0.7 * before


def test_a_request_that_was_given_up_early_does_not_count_as_a_fast_one() -> None:
    limited = limiter()
    limited.service_s = 0.05
    limited.end(limited.begin(), 0.001, finished=False)
    assert limited.service_s == 0.05
