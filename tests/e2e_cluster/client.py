"""Asks the gateway from inside the cluster, with the standard library only: `run.sh` pipes it into a pod.

client.py ask URL COUNT            answers, full answers, answers of the canary, champion's versions, canary's versions
client.py load URL RATE SECONDS    failed requests, requests, p99 in ms; one connection and one try each
"""

import json
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TOKEN = Path("/run/secrets/e2e/token")
TIMEOUT_S = 5.0
USERS = 2_000
"""Users of the default data have the ids 1 to 2,500."""
THREADS = 64
"""Enough for 20 requests a second of which each takes up to three seconds."""


def request(url: str, user: int, token: str) -> dict[str, Any]:
    """One answer. Raises OSError or ValueError where there is none, or another status than 200."""
    body = json.dumps({"user_id": str(user)}).encode()
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    asked = urllib.request.Request(f"{url}/v1/recommendations", body, head)
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def ask(url: str, count: int, token: str) -> str:
    """Ask for users one after another. An answer is full that has campaigns by a version for a known user."""
    answers = []
    for user in range(1, count + 1):
        try:
            answers.append(request(url, user, token))
        except (OSError, ValueError):
            continue
    full = [one for one in answers if one["campaigns"] and not one["degraded"] and not one["cold_start"]]
    versions = {
        variant: ",".join(sorted({one["model_version"] for one in full if one["variant"] == variant})) or "none"
        for variant in ("champion", "canary")
    }
    canary = sum(one["variant"] == "canary" for one in full)
    return f"{len(answers)} {len(full)} {canary} {versions['champion']} {versions['canary']}"


def load(url: str, rate: float, seconds: float, token: str) -> str:
    """Send requests at a steady rate, whatever comes back. Latency counts from the moment a request was due."""
    began = time.monotonic() + 0.1

    def one(number: int) -> float | None:
        due = began + number / rate
        time.sleep(max(due - time.monotonic(), 0.0))
        try:
            request(url, 1 + number % USERS, token)
        except (OSError, ValueError) as error:
            print(f"{time.strftime('%H:%M:%S')} {error}", file=sys.stderr, flush=True)
            return None
        return time.monotonic() - due

    with ThreadPoolExecutor(THREADS) as pool:
        taken = list(pool.map(one, range(int(rate * seconds))))
    times = sorted(time_s for time_s in taken if time_s is not None)
    p99 = times[int(0.99 * (len(times) - 1))] if times else 0.0
    return f"{len(taken) - len(times)} {len(taken)} {round(p99 * 1e3)}"


def main(verb: str, url: str, *numbers: str) -> None:
    """Run one verb and print its line."""
    token = TOKEN.read_text(encoding="utf-8").strip()
    if verb == "ask":
        print(ask(url, int(numbers[0]), token))
    else:
        print(load(url, float(numbers[0]), float(numbers[1]), token))


if __name__ == "__main__":
    main(*sys.argv[1:])
