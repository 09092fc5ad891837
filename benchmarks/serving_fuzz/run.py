"""A whole run against a running endpoint: cases of schemathesis, mutated requests, then its logs and metrics."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from benchmarks.serving_fuzz import contract
from benchmarks.serving_fuzz.attempts import attempt
from benchmarks.serving_fuzz.exchange import exchange
from benchmarks.serving_fuzz.messages import GATEWAY, Message, messages
from benchmarks.serving_fuzz.verdict import Fault, Logs, faults_of, is_known, is_wrong_5xx
from recommender.errors import FeatureStoreError
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.online_store.client import OnlineStoreClient
from serving.wire_key import wire_key

AT_ONCE = 8
"""Connections at once: enough that they meet in the servers, and far from overload."""
MOST_KEPT = 200
"""Faults that are kept. A run with more has one cause, which the first ones show."""


@dataclass
class Outcome:
    """What a run found."""

    cases: Counter[str] = field(default_factory=Counter)
    """Cases of schemathesis by operation."""
    sent: Counter[str] = field(default_factory=Counter)
    """Mutated requests by target."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Answers to them by target and status."""
    faults: list[Fault] = field(default_factory=list)
    num_faults: int = 0
    wrong_5xx: int = 0
    """Faults that are answers by which a server blames itself. Like `num_faults`, also those that are not kept."""
    known: int = 0
    """Answers that are a fault of TorchServe's own (`verdict.is_known`)."""
    hung_up: float = 0.0
    """Requests that the gateway counted as 499."""

    def add(self, fault: Fault) -> None:
        """Note a fault."""
        self.num_faults += 1
        self.wrong_5xx += is_wrong_5xx(fault)
        if len(self.faults) < MOST_KEPT:
            self.faults.append(fault)


def run(
    settings: Settings,
    *,
    users: list[str],
    cases: int,
    requests: int,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Send everything to a running endpoint. `users` are known to its store, and campaigns are live.

    Returns:
        What was sent, what came back, and every fault.
    """
    outcome, logs = Outcome(), Logs(ServingState.of(settings).logs)
    url, token = f"http://127.0.0.1:{settings.serving.port}", secret("token")
    first_token = token.split()[0] if token else None
    headers = {} if first_token is None else {"Authorization": f"Bearer {first_token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        before = _counted(client)
        answer = client.post("/v1/recommendations", json={"user_id": users[0]}).json()
        good = messages(
            users=users,
            campaigns=[one["campaign_id"] for one in answer["campaigns"]],
            request_id=answer["request_id"],
            as_of_us=round(datetime.fromisoformat(answer["as_of"]).timestamp() * 1e6),
            token=first_token,
            key=wire_key(settings),
            packed=_packed(settings, users[0]),
        )
        for fault in contract.cases(url, token=first_token, number=cases, first_seed=seed, seen=outcome.cases):
            outcome.add(fault)
        say(f"schemathesis: {outcome.cases.total()} cases, {outcome.num_faults} faults")
        asyncio.run(_send(settings, good, requests, seed, outcome, say))
        after = client.post("/v1/recommendations", json={"user_id": users[0]})
        if after.status_code != 200 or after.json()["degraded"]:
            outcome.add(Fault(name="afterwards", problem=f"no answer of the model: {after.text[:500]}"))
        counted = _counted(client)
    for name, value in counted.items():
        if name.startswith("499"):
            outcome.hung_up = value - before[name]
        elif value > before[name]:
            outcome.add(Fault(name="metrics", problem=f"{name}: {value - before[name]:g}"))
    for fault in logs.traces():
        outcome.add(fault)
    return outcome


async def _send(
    settings: Settings, good: list[Message], requests: int, seed: int, outcome: Outcome, say: Callable[[str], None]
) -> None:
    ports = {GATEWAY: settings.serving.port}
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            # A seed for each, so that one of them can be made again.
            one = attempt(random.Random(f"{seed}.{number}"), good)
            exchanged = await exchange(ports.get(one.target, settings.serving.inference_port), one)
            outcome.sent[one.target] += 1
            for reply in exchanged.replies:
                outcome.statuses[f"{one.target} {reply.status}"] += 1
                outcome.known += is_known(reply)
            for fault in faults_of(one, exchanged):
                outcome.add(fault)
            if number and number % 5_000 == 0:
                say(f"{number:,} mutated requests, {outcome.num_faults} faults")

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


def _packed(settings: Settings, user: str) -> bytes:
    """The features of a user as the online store holds them."""
    store = OnlineStoreClient.open(settings)
    try:
        found = store.read(user)
    finally:
        store.close()
    if found is None:
        raise FeatureStoreError(f"user {user}: not in the online store")
    return found.content


def _counted(client: httpx.Client) -> dict[str, float]:
    """What the gateway counts that no client may cause, and its clients that hung up."""
    sums = {"499 refusals": 0.0, "500 refusals": 0.0, "model errors": 0.0, "decisions lost": 0.0}
    for line in client.get("/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        for status in ("499", "500"):
            if name == f'recommender_refusals_total{{status="{status}"}}':
                sums[f"{status} refusals"] += float(value)
        if name.startswith("recommender_model_failures_total{") and 'reason="model_error"' in name:
            sums["model errors"] += float(value)
        if name == "recommender_decision_log_lost_total":
            sums["decisions lost"] += float(value)
    return sums
