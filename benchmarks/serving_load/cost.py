"""CPU time of a request in all processes of the endpoint, for each engine, with one live campaign and with several.

The profile by part: what the gateway, TorchServe's Java and the workers use, and what a worker does with its time.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.decision.rows import Row
from benchmarks.serving_load.loads import PORTS, UnderTest
from benchmarks.serving_load.parts import rows as parts_of_a_worker
from recommender.errors import RecommenderError
from recommender.matching.catalogue import Catalogue
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import config
from serving.deployer.endpoint import serve
from serving.deployer.processes import known
from serving.deployer.torchserve import free_port

GOALS = {"torchserve": 1.6, "in_process": 1.0}
"""Engine -> CPU-ms of a request with one live campaign, at most."""
MOST_CAMPAIGNS = 5
"""As many as are live at once, up to this number: the task's."""
CONCURRENCY = 4
"""Requests under way: enough to keep two cores busy, and few enough that none is refused."""
LEAST_OF_MODEL = 0.99
"""A store or a disk that another process of the machine held up may cost a few."""
LONGEST_S = 20.0
FOREVER_S = 1e9
"""The features may be of another time than the moment: they cost the same."""
TICK_MS = 1e3 / os.sysconf("SC_CLK_TCK")
PARTS = ("gateway", "Java", "workers")
"""Processes of an endpoint: the gateway's, TorchServe's Java, and the Python workers of either engine."""
_GROUP_FIELD, _USER_FIELD = 2, 11
"""Places in /proc/<pid>/stat behind the command's name: process group, and user time with system time behind it."""


def rows(endpoint: UnderTest, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Start an endpoint for each engine and number of campaigns, and measure it."""
    moments = live_at(endpoint.settings)
    many = max(number for number in moments if number <= MOST_CAMPAIGNS)
    if 1 not in moments:
        raise RecommenderError(f"{Home.of(endpoint.settings).catalogue}: at no moment is one campaign alone live")
    found = []
    for num_campaigns in dict.fromkeys((1, many)):
        for engine, goal in GOALS.items():
            by_part, answers = _measured(endpoint, engine, moments[num_campaigns], min(seconds, LONGEST_S))
            value = round(sum(by_part.values()), 3)
            parts = {part: round(part_ms, 3) for part, part_ms in by_part.items() if part_ms}
            words = " · ".join(f"{part} {part_ms:.2f}" for part, part_ms in parts.items())
            say(f"{engine}, {num_campaigns} live: {value:.2f} CPU-ms a request ({words}) over {answers:.0f} requests")
            facts = {"requests": int(answers), "live_campaigns": num_campaigns, "cpu_ms": parts}
            if num_campaigns == 1:
                found.append(Row.at_most(f"{engine}: CPU-ms per request, one live campaign", value, goal, **facts))
            else:
                name = f"{engine}: CPU-ms per request, several live campaigns"
                found.append(Row(name=name, value=value, goal="reported", facts=facts))
    return found + parts_of_a_worker(endpoint, {number: moments[number] for number in dict.fromkeys((1, many))}, say)


def live_at(settings: Settings) -> dict[int, datetime]:
    """Numbers of live campaigns, each with the last moment of the catalogue at which so many are live."""
    catalogue = Catalogue.load(Home.of(settings).catalogue)
    edges = sorted({*catalogue.campaign_starts_C.tolist(), *catalogue.campaign_ends_C.tolist()})
    found = {len(catalogue.live(edge_us + 1)): datetime.fromtimestamp((edge_us + 1) / 1e6, UTC) for edge_us in edges}
    return {number: moment for number, moment in found.items() if number}


def _measured(endpoint: UnderTest, engine: str, moment: datetime, seconds: float) -> tuple[dict[str, float], float]:
    """CPU-ms of a request by part, and how many requests were answered."""
    ports = {key: free_port() for key in PORTS}
    state = Home.of(endpoint.settings).benchmark("serving_cost").resolve()
    changes = {**ports, "state": state, "engine": engine, "max_feature_age_s": FOREVER_S}
    own = config.absolute(endpoint.settings.updated(time={"as_of": moment}, serving=changes))
    with serve(own):
        running = UnderTest(own, endpoint.bodies)
        words = ("--concurrency", str(CONCURRENCY), "--seconds")
        running.load(*words, "3")
        before_ms = cpu_ms(own)
        load = running.load(*words, str(seconds))
        used_ms = {part: now_ms - before_ms[part] for part, now_ms in cpu_ms(own).items()}
    answers = float(sum(len(times) for times in load["latencies_s"].values()))
    if len(load["latencies_s"]["model"]) < LEAST_OF_MODEL * answers:
        raise RecommenderError(f"{engine}: too few answers were the model's: {load['per_second']}")
    return {part: part_ms / answers for part, part_ms in used_ms.items()}, answers


def cpu_ms(settings: Settings) -> dict[str, float]:
    """CPU time of the processes of an endpoint, in milliseconds by part, without those that have ended."""
    state = ServingState.of(settings)
    groups = {one.pid for name in ("gateway", "torchserve") if (one := known(state.pid_file(name))) is not None}
    total = dict.fromkeys(PARTS, 0.0)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[_GROUP_FIELD]) in groups:
                ticks = int(fields[_USER_FIELD]) + int(fields[_USER_FIELD + 1])
                total[_part((process / "cmdline").read_bytes())] += ticks * TICK_MS
        except OSError:
            continue  # it ended meanwhile
    return total


def _part(command: bytes) -> str:
    if b"serving.engines.in_process.worker" in command or b"model_service_worker" in command:
        return "workers"
    return "Java" if b"org.pytorch.serve" in command else "gateway"
