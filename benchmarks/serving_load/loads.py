"""The endpoint under test, and load on it from processes of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.serving import users_of
from recommender.errors import RecommenderError
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import config
from serving.deployer.endpoint import serve
from serving.deployer.torchserve import free_port

PORTS = ("port", "health_port", "inference_port", "management_port", "metrics_port")
PATH = "/v1/recommendations"
Load = dict[str, Any]
"""What `python -m serving.load --raw` prints."""


@dataclass(frozen=True)
class UnderTest:
    """A running endpoint and the bodies to send to it."""

    settings: Settings
    bodies: bytes

    @property
    def deadline_s(self) -> float:
        """The deadline of a request."""
        return self.settings.serving.deadline_ms / 1e3

    def started(self, *words: str, path: str = PATH, port: int | None = None) -> "subprocess.Popen[bytes]":
        """A load generator that began to run, in a process of its own."""
        url = f"http://127.0.0.1:{port or self.settings.serving.port}{path}"
        command = [sys.executable, "-m", "serving.load", url, "--raw", *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(self.bodies)
        process.stdin.close()
        process.stdin = None
        return process

    def load(self, *words: str) -> Load:
        """Run a load generator to its end."""
        return finished(self.started(*words))

    def capacity(self, seconds: float) -> float:
        """Answers of a model per second with sixteen requests under way, after a warm-up."""
        words = ("--concurrency", "16", "--seconds", str(seconds), "--warm-up", "3")
        return float(self.load(*words)["per_second"]["model"])


def finished(process: "subprocess.Popen[bytes]") -> Load:
    """What a load generator printed at its end."""
    printed, _ = process.communicate()
    if process.returncode:
        raise RecommenderError(f"the load generator ended with {process.returncode}")
    result: Load = json.loads(printed)
    return result


def latencies_ms(load: Load, *outcomes: str) -> list[float]:
    """Latencies of these outcomes in milliseconds, sorted."""
    return sorted(seconds * 1e3 for outcome in outcomes for seconds in load["latencies_s"][outcome])


def p99(values: list[float]) -> float:
    """The 99th percentile of sorted values. NaN for none."""
    return values[min(len(values) - 1, int(len(values) * 0.99))] if values else float("nan")


def in_time(load: Load, limit_s: float) -> float:
    """Answers of a model per second that came within a limit."""
    return sum(1.0 for seconds in load["latencies_s"]["model"] if seconds <= limit_s) / float(load["seconds"])


@contextmanager
def under_test(settings: Settings, folder: str = "serving_load") -> Iterator[UnderTest]:
    """Run an endpoint of the champion on free ports, beside whatever runs. Its state lies in a folder of its own."""
    ports = {key: free_port() for key in PORTS}
    state = Home.of(settings).benchmark(folder).resolve()
    own = config.absolute(settings.updated(serving={**ports, "state": state}))
    with serve(own):
        bodies = "".join(json.dumps({"user_id": user}) + "\n" for user in users_of(own))
        yield UnderTest(own, bodies.encode())
