"""Start a small shop's endpoint, send everything to it, print what is wrong, and merge the rows of the report."""

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmarks.serving_fuzz
from benchmarks.decision.rows import Row, merge
from benchmarks.measured_on import measured_on
from benchmarks.served_shop import make, served
from benchmarks.serving_fuzz.run import Outcome, run
from recommender.features.some_users import some_users

CASES, REQUESTS = 5_000, 50_000
"""The goal of the task."""
PATIENT: dict[str, Any] = {"deadline_ms": 5_000, "store_deadline_ms": 2_000}
"""Nothing here is about lateness: a busy machine must not turn answers of the model into popular lists."""
SHOWN = 20
"""Faults that are printed. All that were kept are in the file of --faults."""


def main(words: Sequence[str] | None = None) -> int:
    """Run. The exit code is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="make fuzz-serving", description=benchmarks.serving_fuzz.__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="cases of schemathesis")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="mutated requests")
    parser.add_argument("--seed", type=int, default=1, help="another seed sends other requests")
    parser.add_argument("--output", type=Path, default=Path("reports/bench/serving.json"), help="the report (JSON)")
    parser.add_argument("--faults", type=Path, help="a file for all faults")
    chosen = parser.parse_args(words)
    os.environ["RECOMMENDER_TOKEN"] = secrets.token_hex(16)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="serving-fuzz-") as folder:
        shop = make(Path(folder), num_users=1_000, **PATIENT)
        with served(shop):
            print(f"endpoint up after {time.monotonic() - began_s:.0f} s", flush=True)
            outcome = run(
                shop.settings,
                users=some_users(shop.settings, 10),
                cases=chosen.cases,
                requests=chosen.requests,
                seed=chosen.seed,
                say=lambda text: print(text, flush=True),
            )
    merge(_rows(outcome, chosen.seed), measured_on(), chosen.output)
    for name, count in sorted((outcome.sent + outcome.statuses).items()):
        print(f"  {name:24s} {count:8,}")
    for fault in outcome.faults[:SHOWN]:
        print(f"\n{fault.name}\n  {fault.problem}\n  {fault.sent[:600]}")
    if chosen.faults is not None:
        lines = (f"{fault.name}\n{fault.problem}\n{fault.sent}\n\n" for fault in outcome.faults)
        chosen.faults.write_text("".join(lines), encoding="utf-8", errors="replace")
    print(f"{outcome.cases.total():,} cases, {outcome.sent.total():,} mutated requests: {outcome.num_faults} faults")
    return int(outcome.num_faults > 0)


def _rows(outcome: Outcome, seed: int) -> list[Row]:
    facts = {
        "cases": outcome.cases.total(),
        "mutated_requests": outcome.sent.total(),
        "seed": seed,
        "statuses": dict(sorted(outcome.statuses.items())),
    }
    others = outcome.num_faults - outcome.wrong_5xx
    return [
        Row.at_most("wrong and hostile requests: wrong 5xx", outcome.wrong_5xx, 0, **facts),
        Row.at_most("wrong and hostile requests: other faults", others, 0, hung_up_499=outcome.hung_up),
        Row(name="500 of TorchServe's Java to a target without a slash", value=outcome.known, goal="reported"),
    ]


if __name__ == "__main__":
    sys.exit(main())
