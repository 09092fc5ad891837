"""`load-test`: send requests to a running endpoint at a steady rate, and show what came of them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from cli.answers import bearer_token
from recommender.errors import LONGEST_ANSWER, ServingError, SettingsError
from recommender.report.terminal import wide
from recommender.settings import Settings

if TYPE_CHECKING:
    from serving.load.generator import Target
    from serving.load.results import Result

PATH = "/v1/recommendations"
NUM_USERS = 1_000
"""Users of the last run that are asked in turn. Enough that a store's cache does not hold only what is asked."""
CONCURRENCY, MEASURED_S, WARM_UP_S = 16, 5.0, 2.0
"""How the capacity is measured: requests under way, and seconds. As in `make bench-serving`."""
PATIENCE_S = 30
"""Seconds for the first request, far beyond a gateway's deadline: it answers or is not there."""
MOST_CPU, MOST_LATE_S = 0.8, 0.02
"""From here on the generator is taken for the limit: the share of its one core that it used, and how late 1 % of its
requests were. By hand: a generator at 0.8 of a core begins to fall behind, and the scheduler of a busy machine alone
delays it by up to 10 ms."""
SHOWN = ("p50", "p90", "p99", "p99.9")
GROUPS = {
    "model": "answers of a model",
    "popular": "degraded answers",
    "refused": "refused (429, 503)",
    "error": "other statuses",
    "lost": "connection lost",
    "unanswered": "no answer within 10 s",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options of `load-test` say. Exactly one of `rate` and `times` is given."""

    url: str
    rate: float | None
    times: float | None
    seconds: float
    users_file: Path | None
    token_file: Path | None
    within_ms: float | None


def load_and_show(settings: Settings, asked: Asked, *, as_json: bool) -> None:
    """Load the endpoint, and print the figures as a table or as JSON.

    Raises:
        SettingsError: An option is wrong, or a file cannot be used. Names it.
        ServingError: Nobody listens there, the token is wrong, or what answers is no gateway.
        FeatureStoreError: No users are given, and there was no run whose users could be asked.
    """
    if (asked.rate is None) == (asked.times is None):
        raise SettingsError("give either --rate (requests per second) or --times (of the capacity, measured first)")
    token = _token(asked.token_file)
    users = _users(settings, asked.users_file)
    target, address = _target(asked.url, users, token)
    _ask_once(address, users[0], token)
    within_ms = settings.serving.deadline_ms if asked.within_ms is None else asked.within_ms
    document = {"url": address, **_run(target, asked, within_ms, Console(stderr=True))}
    if as_json:
        print(json.dumps(document))
    else:
        _show(wide(), document)
    for warning in document["warnings"]:
        Console(stderr=True, soft_wrap=True).print(f"[bold yellow]warning:[/] {warning}", highlight=False)


def _run(target: "Target", asked: Asked, within_ms: float, progress: Console) -> dict[str, Any]:
    import uvloop

    from serving.load.generator import closed_loop, open_loop

    async def run() -> dict[str, Any]:
        capacity: float | None = None
        rate = asked.rate
        if asked.times is not None:
            progress.print(f"measuring the capacity for {MEASURED_S:g} s …")
            how = {"seconds": MEASURED_S, "warm_up_s": WARM_UP_S}
            capacity = (await closed_loop(target, concurrency=CONCURRENCY, **how)).per_second("model")
            if not capacity:
                raise ServingError("no answer of a model while the capacity was measured; give --rate instead")
            rate = asked.times * capacity
        assert rate is not None
        progress.print(f"{rate:,.1f} requests per second for {asked.seconds:g} s …", highlight=False)
        result = await open_loop(target, rate=rate, seconds=asked.seconds)
        return {"capacity_per_s": capacity, **summary(result, within_ms)}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def summary(result: "Result", within_ms: float) -> dict[str, Any]:
    """The figures of an open loop. `goodput_per_s`: answers of a model within `within_ms`, per second."""
    from serving.load.results import percentiles_ms

    document = result.document()
    answered = result.latencies_s["model"] + result.latencies_s["popular"]
    document["goodput_per_s"] = round(result.per_second("model", within_s=within_ms / 1e3), 2)
    document["within_ms"] = within_ms
    if answered:
        document["ms"]["answered"] = percentiles_ms(answered)
    document["warnings"] = _warnings(result)
    return document


def _warnings(result: "Result") -> list[str]:
    from serving.load.results import percentile

    found, late_s = [], percentile(result.late_s, 99)
    if result.cpu_share > MOST_CPU or late_s > MOST_LATE_S:
        found.append(
            f"the generator was the limit: it used {result.cpu_share:.0%} of its core and sent 1 % of its requests "
            f"{late_s * 1e3:.0f} ms late or more; the figures say more about it than about the endpoint"
        )
    if result.waited:
        found.append(
            f"all {result.most_connections} connections were in use {result.waited:,} times; the wait for one counts "
            "as latency"
        )
    return found


def _token(file: Path | None) -> str | None:
    if file is None:
        return bearer_token()
    try:
        words = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--token-file {file}: cannot be read ({error})") from None
    if not words:
        raise SettingsError(f"--token-file {file}: the file is empty")
    return words[0]


def _users(settings: Settings, file: Path | None) -> list[str]:
    from recommender.features.some_users import some_users

    if file is None:
        return some_users(settings, NUM_USERS)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--users {file}: cannot be read ({error})") from None
    users = [line.strip() for line in lines if line.strip()]
    if not users:
        raise SettingsError(f"--users {file}: holds no user; give one user_id a line")
    return users


def _target(url: str, users: Sequence[str], token: str | None) -> tuple["Target", str]:
    """What the generator sends where, and the address of the requests."""
    from serving.load.generator import Target, post

    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError as error:
        raise SettingsError(f"{url}: not an address ({error})") from None
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError(f"{url}: give the gateway's own address, such as http://127.0.0.1:8000 (no https)")
    path = PATH if parts.path in ("", "/") else parts.path
    bodies = [json.dumps({"user_id": user}).encode() for user in users]
    requests = [post(path, body, host=parts.netloc, token=token) for body in bodies]
    return Target(host=parts.hostname, port=port, requests=requests), f"http://{parts.netloc}{path}"


def _ask_once(address: str, user: str, token: str | None) -> None:
    """Ask for one user first, so that a wrong address or token is one message and not thousands of failures."""
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Without the environment's proxy, as the generator goes.
        response = httpx.post(address, json={"user_id": user}, headers=headers, timeout=PATIENCE_S, trust_env=False)
    except httpx.ConnectError as error:
        raise ServingError(f"{address}: nobody listens there ({error}). Start it with: recommender serve") from None
    except httpx.HTTPError as error:
        raise ServingError(f"{address}: no answer ({type(error).__name__}: {error})") from None
    if response.status_code == 401:
        given = "the token is not a valid one" if token else "a token is needed"
        raise ServingError(f"{address} answered 401: {given}; set RECOMMENDER_TOKEN or give --token-file")
    if response.status_code in (429, 503):
        return  # busy already, or without a popular list yet: that is what a load test shows
    if response.status_code != 200:
        text = response.text[:LONGEST_ANSWER]
        raise ServingError(f"{address} answered {response.status_code}: {text}. The gateway's path is {PATH}")
    if b'"campaigns"' not in response.content:
        raise ServingError(f"{address} answered 200, but not with recommendations. The gateway's path is {PATH}")


def _show(console: Console, figures: dict[str, Any]) -> None:
    capacity = figures["capacity_per_s"]
    measured = "" if capacity is None else f" (capacity {capacity:,.1f}/s with {CONCURRENCY} requests under way)"
    console.print(
        f"{figures['url']}: {figures['requests']:,} requests in {figures['seconds']:.1f} s, "
        f"{figures['rate']:,.1f}/s{measured}\n"
        f"goodput {figures['goodput_per_s']:,.1f}/s: answers of a model within {figures['within_ms']:g} ms",
        highlight=False,
    )
    table = Table("ms since the intended moment of sending", "per second", *SHOWN)
    for outcome, name in GROUPS.items():
        if outcome in figures["ms"]:
            times = [f"{figures['ms'][outcome][percent]:,.1f}" for percent in SHOWN]
            table.add_row(name, f"{figures['per_second'][outcome]:,.1f}", *times)
    if "answered" in figures["ms"]:
        answered = figures["per_second"]["model"] + figures["per_second"]["popular"]
        times = [f"{figures['ms']['answered'][percent]:,.1f}" for percent in SHOWN]
        table.add_row("all answers", f"{answered:,.1f}", *times)
    console.print(table)
    statuses = {"no answer" if status == "0" else status: count for status, count in figures["statuses"].items()}
    for title, counts in (("status", statuses), ("degraded reason", figures["degraded_reasons"])):
        if counts:
            console.print(f"{title}: {', '.join(f'{name} {n:,}' for name, n in counts.items())}", highlight=False)
    late_ms = figures["late_ms"].get("p99", 0.0)
    console.print(
        f"generator: {figures['generator_cpu_share']:.0%} of a core, {figures['most_connections']:,} connections, "
        f"1 % of the requests sent {late_ms:.1f} ms late or more",
        highlight=False,
    )
