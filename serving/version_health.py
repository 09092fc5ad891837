"""The health of deployed versions, as each gateway process of a replica tells it to the deployer.

A file per process, `<state>/health/<pid>.json`, is written again every second while a version is sick. The deployer
believes a file that is at most `FRESH_S` old, so what a killed gateway left behind ends no canary.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

FRESH_S = 10.0
"""Ten times as long as a gateway needs between two reports. By hand: a busy machine delays them."""


@dataclass(frozen=True)
class Sick:
    """A version whose circuit breaker opened and has not stayed closed since."""

    for_s: float
    """Seconds since it opened first."""
    problem: str
    """What went wrong last."""


def write_report(folder: Path, name: str, sick: dict[str, Sick]) -> None:
    """Write a process's report, whole or not at all. It need not outlive the machine, so nothing is synced."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}"
    temporary.write_text(json.dumps({version: asdict(one) for version, one in sick.items()}), encoding="utf-8")
    temporary.replace(folder / f"{name}.json")


def read_reports(folder: Path) -> dict[str, Sick]:
    """Sick versions by all fresh reports, each as the process says that has found it sick for the longest."""
    sick: dict[str, Sick] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            if time.time() - file.stat().st_mtime > FRESH_S:
                continue
            found = {version: Sick(**one) for version, one in json.loads(file.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # ended meanwhile, or not one of ours
            continue
        for version, one in found.items():
            if version not in sick or one.for_s > sick[version].for_s:
                sick[version] = one
    return sick
