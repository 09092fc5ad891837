"""More requests than the endpoint can answer: goodput, latency, health, and how soon it is itself again."""

from collections.abc import Callable

from benchmarks.decision.rows import Row
from benchmarks.serving_load.loads import Load, UnderTest, finished, in_time, latencies_ms, p99, under_test

GOALS = {"torchserve": {3.0: 0.65, 1.5: 0.85}, "in_process": {3.0: 0.40, 1.5: 0.75}}
"""Engine -> times the capacity -> goal of the goodput, as a share of the capacity."""
HEALTH_GOAL_MS, RECOVERY_GOAL_S = 100.0, 2.0
CAPACITY_S, CALM_S = 8.0, 6.0
CALM = 0.7
"""Rate after the overload, as a share of the capacity, at which every answer should be a model's again."""
BIN_S, WHOLE = 0.5, 0.95
"""The endpoint is itself again once this share of the answers of every later half second is a model's."""


def rows(endpoint: UnderTest, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Overload an endpoint of each engine."""
    found = []
    for engine in GOALS:
        with under_test(endpoint.settings.updated(serving={"engine": engine}), "serving_overload") as own:
            found += _overloaded(own, seconds, say)
    return found


def _overloaded(endpoint: UnderTest, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Measure the capacity before, between and after the overloads, and each of these against its two neighbours."""
    found, engine = [], endpoint.settings.serving.engine
    before = endpoint.capacity(CAPACITY_S)
    say(f"{engine}: capacity {before:.0f} answers/s")
    for factor, goal in GOALS[engine].items():
        probes = endpoint.started(
            "--get",
            "--rate",
            "20",
            "--seconds",
            str(seconds),
            path="/healthz",
            port=endpoint.settings.serving.health_port,
        )
        load = endpoint.load("--rate", str(factor * before), "--seconds", str(seconds))
        calm = endpoint.load("--rate", str(CALM * before), "--seconds", str(CALM_S))
        health = finished(probes)
        after = endpoint.capacity(CAPACITY_S)
        say(f"{factor} x: {load['per_second']}, capacity afterwards {after:.0f} answers/s")
        found += _rows(endpoint, factor, goal, (before, after), load, calm, health)
        before = after
    return found


def _rows(
    endpoint: UnderTest,
    factor: float,
    goal: float,
    capacities: tuple[float, float],
    load: Load,
    calm: Load,
    health: Load,
) -> list[Row]:
    limit_s, capacity = 2 * endpoint.deadline_s, sum(capacities) / 2
    answered, at = latencies_ms(load, "model", "popular"), f"at {factor:g} x capacity"
    engine = endpoint.settings.serving.engine
    facts = {
        "capacity_before_per_s": round(capacities[0], 1),
        "capacity_after_per_s": round(capacities[1], 1),
        "seconds": round(float(load["seconds"]), 1),
        "per_second": load["per_second"],
        "within_deadline": round(in_time(load, endpoint.deadline_s) / capacity, 3),
        "generator_cpu_share": load["generator_cpu_share"],
        "generator_late_ms": load["late_ms"],
        "connections": load["most_connections"],
    }
    lost = sum(len(load["latencies_s"][outcome]) for outcome in ("lost", "error", "unanswered"))
    return [
        Row.at_least(f"{engine}: goodput {at}", round(in_time(load, limit_s) / capacity, 3), goal, **facts),
        Row.at_most(
            f"{engine}: p99 of answered requests {at}, in deadlines",
            round(p99(answered) / endpoint.deadline_s / 1e3, 2),
            2,
        ),
        Row.at_most(f"{engine}: requests without any answer {at}", lost, 0),
        Row.at_most(f"{engine}: /healthz p99 {at}, ms", round(p99(latencies_ms(health, "model")), 1), HEALTH_GOAL_MS),
        Row.at_most(f"{engine}: seconds until all is well after {at[3:]}", recovery_s(calm), RECOVERY_GOAL_S),
    ]


def recovery_s(calm: Load) -> float:
    """Seconds from the end of the overload to the end of the last half second in which a model gave too few answers."""
    whole: list[float] = []
    others: list[float] = []
    for outcome, ends in calm["ended_s"].items():
        (whole if outcome == "model" else others).extend(ends)
    last = 0.0
    for number in range(int(float(calm["seconds"]) / BIN_S)):
        start = number * BIN_S
        models, rest = (sum(start <= end < start + BIN_S for end in ends) for ends in (whole, others))
        if models < WHOLE * (models + rest):
            last = start + BIN_S
    return last
