"""`make bench-serving`: the latency of one user against all live campaigns, beside a handler that does nothing.

The gateway (with its feature read and TorchServe) and a no-op handler of the same TorchServe are asked in turn, one
request each, so that whatever else the machine does hits both alike. Batch size 1, no delay, the same workers and
threads, kept connections. Direct requests to the real model show what the gateway adds.
"""

import argparse
import http.client
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import RecommenderError
from recommender.features.some_users import some_users
from recommender.settings import Settings, load_settings
from recommender.storage.home import Home
from recommender.storage.manifest import write_text
from serving import config
from serving.archive import MODEL_NAME, write_archive
from serving.deployer.endpoint import serve
from serving.deployer.management import TorchServe
from serving.deployer.torchserve import free_port

NO_OP = b"""class NoOp:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [b"{}"] * len(data)
"""
REPORT = Path("reports/bench/serving.json")
NAME = "no_op"
GOAL = 2.5
"""The p50 of the gateway over that of the handler that does nothing, at most: the goal of the task."""
WARM_UP, ROUNDS, USERS = 300, 2_000, 200
"""Rounds before the clock starts, rounds measured (20 lie above a p99), and different users asked. Chosen by hand."""
MOST_CAMPAIGNS = 100
"""Asked for, and more than there are, so that every live campaign is scored."""
MOST_SHOWN = 300
"""Characters of a failed answer in the error message. Chosen by hand: a few lines of a terminal."""


def bench(settings: Settings, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Start an endpoint beside whatever runs, measure, and stop it: milliseconds by target and the ratio of the p50.

    Raises:
        ServingError: There is no champion to measure, or the endpoint did not start.
    """
    ports = {key: free_port() for key in ("port", "inference_port", "management_port", "metrics_port")}
    state = Home.of(settings).benchmark("serving").resolve()
    own = config.absolute(settings.updated(serving={**ports, "state": state}))
    with serve(own) as deployment:
        server = TorchServe(own)
        write_archive({"no_op.py": NO_OP}, server.model_store / "no_op.mar", version="1", handler="no_op.py", name=NAME)
        server.register("no_op.mar", name=NAME)
        server.wait_ready("1", name=NAME)
        users = users_of(own)
        version = deployment.refresh().champion
        targets = {
            "no-op TorchServe handler": (own.serving.inference_port, f"/predictions/{NAME}"),
            "gateway + features + TorchServe": (own.serving.port, "/v1/recommendations"),
            "TorchServe, real model, direct": (own.serving.inference_port, f"/predictions/{MODEL_NAME}/{version}"),
        }
        seconds, num_campaigns = _measure(targets, users, rounds)
    report: dict[str, Any] = {
        "ms": {name: _summary(values) for name, values in seconds.items()},
        "rounds": rounds,
        "workers": own.serving.num_workers,
        "users": len(users),
        "live_campaigns": num_campaigns,
        "model_version": version,
        "goal_ratio": GOAL,
    }
    p50 = [report["ms"][name]["p50"] for name in targets]
    report["ratio_p50"] = p50[1] / p50[0]
    return report


def _measure(targets: dict[str, tuple[int, str]], users: list[str], rounds: int) -> tuple[dict[str, list[float]], int]:
    connections = {name: http.client.HTTPConnection("127.0.0.1", port) for name, (port, _) in targets.items()}
    seconds: dict[str, list[float]] = {name: [] for name in targets}
    num_campaigns = 0
    for turn in range(WARM_UP + rounds):
        body = json.dumps({"user_id": users[turn % len(users)], "num_campaigns": MOST_CAMPAIGNS}).encode()
        for name, (_, path) in targets.items():
            began = time.perf_counter()
            connections[name].request("POST", path, body, {"Content-Type": "application/json"})
            response = connections[name].getresponse()
            content = response.read()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
            if response.status != 200:
                raise RecommenderError(
                    f"{name} answered {response.status}: {content[:MOST_SHOWN].decode(errors='replace')}"
                )
            if path == "/v1/recommendations":
                answer = json.loads(content)
                if answer["degraded"] or answer["cold_start"]:
                    raise RecommenderError(
                        f"the gateway did not use the model: {answer['degraded_reasons'] or 'cold start'}"
                    )
                num_campaigns = max(num_campaigns, len(answer["campaigns"]))
    for connection in connections.values():
        connection.close()
    return seconds, num_campaigns


def _summary(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = (float(value) for value in np.percentile(np.array(seconds) * 1e3, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99, "mean": statistics.fmean(seconds) * 1e3, "min": min(seconds) * 1e3}


def users_of(settings: Settings) -> list[str]:
    """User ids of the last materialisation, evenly spread over all of them."""
    return some_users(settings, USERS)


def main(words: list[str] | None = None) -> int:
    """Measure, print, write reports/bench/serving.json. The exit code is 1 when the goal is missed, 2 on an error."""
    parser = argparse.ArgumentParser(prog="make bench-serving", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="requests measured of each target")
    given = parser.parse_args(words)
    default = Path("recommender.toml")
    settings = load_settings(default if default.is_file() else None)
    try:
        report = bench(settings, rounds=given.rounds)
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for name, row in report["ms"].items():
        print(f"{name:34s} p50 {row['p50']:7.2f} ms   p95 {row['p95']:7.2f} ms   p99 {row['p99']:7.2f} ms")
    print(
        f"p50 ratio {report['ratio_p50']:.2f} (goal: at most {GOAL:.1f}) · {report['live_campaigns']} live campaigns · "
        f"{report['rounds']} interleaved rounds · {report['workers']} worker(s) · {report['model_version']}"
    )
    # Rows of other benchmarks of serving stay.
    known = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.is_file() else {}
    write_text(REPORT, json.dumps({**report, "rows": known.get("rows", [])}, indent=1) + "\n")
    return 0 if report["ratio_p50"] <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
