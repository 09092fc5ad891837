"""Faults of single versions and workers: a canary that hangs, a worker that is killed, and a rollback."""

import http.client
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path

from benchmarks.decision.rows import Row
from benchmarks.serving_load.loads import PATH, PORTS, UnderTest, p99
from recommender.decisions.assignment import assign
from recommender.errors import RecommenderError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST
from serving import config
from serving.deployer.endpoint import serve
from serving.deployer.management import TorchServe
from serving.deployer.torchserve import free_port

SHARE = 0.5
"""Share of the users that get the canary: as many as possible see its faults."""
KILLS, ROLLBACKS = 6, 3
PAUSE_S, LOOK_S = 0.02, 0.1
"""Seconds between two requests of the shoppers, and between two looks at /readyz and at workers."""
PATIENCE_S = 120.0
AFTER_S = 2.0
"""Seconds for which shoppers go on asking after each fault."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """One answer."""

    at_s: float
    seconds: float
    canary_user: bool
    model_version: str


@dataclass
class Shoppers:
    """Ask one request after the other, and look at /readyz, each in a thread of its own."""

    settings: Settings
    users: Sequence[str]
    given: list[Given] = field(default_factory=list)
    ready: list[tuple[float, int]] = field(default_factory=list)
    """When /readyz was asked, and the status of its answer."""
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask for one user after the other."""
        serving = self.settings.serving
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=30)
        for user in cycle(self.users):
            if self.ended.wait(PAUSE_S):
                break
            body, began_s = json.dumps({"user_id": user}), time.monotonic()
            connection.request("POST", PATH, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            version = str(json.loads(answer.read()).get("model_version", f"status {answer.status}"))
            now_s = time.monotonic()
            of_canary = assign(user, salt=serving.assignment_salt, canary_share=SHARE).variant == "canary"
            self.given.append(Given(now_s, now_s - began_s, of_canary, version))
        connection.close()

    def look(self) -> None:
        """Ask /readyz again and again."""
        while not self.ended.wait(LOOK_S):
            connection = http.client.HTTPConnection("127.0.0.1", self.settings.serving.health_port or 0, timeout=10)
            connection.request("GET", "/readyz")
            self.ready.append((time.monotonic(), connection.getresponse().status))
            connection.close()

    def last_version(self) -> str:
        """The version of the last answer."""
        return self.given[-1].model_version if self.given else ""

    def longest_without_model_s(self, since_s: float) -> float:
        """Longest time between two answers of a model."""
        times = [one.at_s for one in self.given if one.at_s >= since_s and "-" in one.model_version]
        return max(after - before for before, after in pairwise([since_s, *times, time.monotonic()]))


def rows(endpoint: UnderTest, seconds: float, say: Say) -> list[Row]:
    """Stop the canary's workers for `seconds`, kill workers, and roll back."""
    users = [json.loads(line)["user_id"] for line in endpoint.bodies.splitlines()]
    with tempfile.TemporaryDirectory(prefix="recommender-isolation-") as folder:
        settings = _own(endpoint.settings, Path(folder))
        registry, server = Registry(settings.home), TorchServe(settings)
        champion, other = str(registry.champion()), _another(registry, Path(folder))
        registry.start_canary(other, SHARE)
        with _followed(settings, users) as shoppers:
            _until(lambda: len(shoppers.given) > len(users), "answers")
            found = _stopped(settings, shoppers, registry, seconds, say)
            found.append(_killed(server, champion, shoppers, say))
            found.append(_rolled_back(registry, other, champion, shoppers, say))
    return found


def _stopped(settings: Settings, shoppers: Shoppers, registry: Registry, seconds: float, say: Say) -> list[Row]:
    champion, canary = registry.champion(), registry.canary()
    assert canary is not None
    limit_s = settings.isolation.canary_sick_s or 0.0
    pids, began_s, ended_s = TorchServe(settings).worker_pids(canary.version), time.monotonic(), float("nan")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    while time.monotonic() - began_s < max(seconds, limit_s + 10):
        if registry.canary() is None and ended_s != ended_s:
            ended_s = time.monotonic() - began_s
        time.sleep(LOOK_S)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    deadline_s = settings.serving.deadline_ms / 1e3
    # An answer that was on its way when the workers were stopped may still be the canary's.
    theirs = [one for one in shoppers.given if one.canary_user and one.at_s > began_s + deadline_s]
    by_champion = sum(one.model_version == champion for one in theirs) / len(theirs)
    statuses = [status for at_s, status in shoppers.ready if at_s >= began_s]
    history = [event for event in registry.history() if event["what"] == "canary ended"]
    say(f"stopped canary: {by_champion:.4f} by the champion, ended after {ended_s:.1f} s: {history}")
    slowest = p99(sorted(one.seconds for one in theirs)) / deadline_s
    facts = {"workers": len(pids), "stopped_s": seconds, "answers": len(theirs), "share": SHARE}
    name = "canary's workers stopped"
    return [
        Row.at_least(f"{name}: share of /readyz that answered 200", statuses.count(200) / len(statuses), 1.0, **facts),
        Row.at_least(f"{name}: share of its users' answers by the champion", round(by_champion, 4), 0.99),
        Row.at_most(f"{name}: p99 of its users' answers, in deadlines", round(slowest, 3), 1.0),
        Row.at_most(
            f"{name}: seconds until it was ended", round(ended_s, 1), limit_s + 10, times_in_history=len(history)
        ),
    ]


def _killed(server: TorchServe, version: str, shoppers: Shoppers, say: Say) -> Row:
    since_s, known = time.monotonic(), server.worker_pids(version)
    num_workers, back_s = len(known), []
    for _ in range(KILLS):
        killed_s, before = time.monotonic(), set(known)
        os.kill(known[-1], signal.SIGKILL)
        known = _with_a_new_one(server, version, before)
        back_s.append(round(time.monotonic() - killed_s, 1))
        time.sleep(AFTER_S)
    longest_s = shoppers.longest_without_model_s(since_s)
    popular = sum(one.model_version == "popular" for one in shoppers.given if one.at_s >= since_s)
    say(f"killed workers: {longest_s:.2f} s without a model at most, {popular} popular lists, back after {back_s} s")
    facts = {"workers": num_workers, "seconds_until_ready": back_s, "popular_lists": popular}
    return Row.at_most(
        f"a worker killed {KILLS} times: longest time without a model's answer, s", round(longest_s, 2), 1.0, **facts
    )


def _with_a_new_one(server: TorchServe, version: str, before: set[int]) -> list[int]:
    """The version's workers, the new one last, once it is READY."""
    _until(lambda: bool({*server.worker_pids(version)} - before), "a new worker is READY")
    return sorted(server.worker_pids(version), key=lambda pid: pid not in before)


def _rolled_back(registry: Registry, new: str, former: str, shoppers: Shoppers, say: Say) -> Row:
    took_s = []
    for _ in range(ROLLBACKS):
        registry.promote(new)
        _until(lambda: shoppers.last_version() == new, "the promoted version answers")
        time.sleep(AFTER_S)
        registry.rollback()
        began_s = time.monotonic()
        _until(lambda: shoppers.last_version() == former, "the former champion answers")
        took_s.append(round(time.monotonic() - began_s, 2))
        time.sleep(AFTER_S)
    say(f"rollback: {took_s} s")
    return Row.at_most("seconds from a rollback in the registry to the first answer", max(took_s), 5.0, all=took_s)


def _own(settings: Settings, folder: Path) -> Settings:
    """A home with a copy of the registry, and two workers for each version."""
    theirs, ours = Home.of(settings), Home(folder / "home")
    ours.root.mkdir()
    shutil.copytree(theirs.registry, ours.registry)
    ours.feature_store.root.symlink_to(theirs.feature_store.root)
    ours.catalogue.symlink_to(theirs.catalogue.resolve())
    ports = {key: free_port() for key in PORTS}
    serving = {**ports, "state": folder / "state", "workers": 2}
    return config.absolute(settings.updated(home=ours.root, serving=serving))


def _another(registry: Registry, folder: Path) -> str:
    """A version other than the champion: the newest one, or else the champion under another identity."""
    champion = str(registry.champion())
    others = [event["version"] for event in registry.history() if event["what"] == "added"]
    known = [version for version in others if version != champion and version in registry.versions()]
    if known:
        return str(known[-1])
    copy = shutil.copytree(registry.path(champion), folder / "candidate", ignore=shutil.ignore_patterns(MANIFEST))
    for fit in registry.path(champion).glob("fits/*"):
        shutil.copy(fit / MANIFEST, copy / "fits" / fit.name)
    lineage = json.loads((copy / "lineage.json").read_text(encoding="utf-8"))
    (copy / "lineage.json").write_text(json.dumps({**lineage, "training_hash": "another"}), encoding="utf-8")
    return registry.add(copy)


@contextmanager
def _followed(settings: Settings, users: Sequence[str]) -> Iterator[Shoppers]:
    """An endpoint that follows its registry, and shoppers that ask it."""
    shoppers = Shoppers(settings, users)
    with serve(settings) as deployment:
        following = threading.Thread(target=deployment.follow)
        threads = [threading.Thread(target=shoppers.ask), threading.Thread(target=shoppers.look)]
        for thread in (following, *threads):
            thread.start()
        try:
            yield shoppers
        finally:
            shoppers.ended.set()
            for thread in threads:
                thread.join()
            deployment.stop()
            following.join()


def _until(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline_s:
            raise RecommenderError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.02)
