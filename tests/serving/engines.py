"""The two halves of an engine, without a gateway: what tests/serving/test_engines.py asks every engine."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from conftest import Shop, with_serving
from gateways import copied_home
from mlserver import MlServer, mlserver
from servers import free_ports

from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving import wire
from serving.deployed import Deployed
from serving.deployer.engines import loading, start_server
from serving.deployer.processes import find
from serving.deployer.torchserve import stop_torchserve
from serving.engines.choice import open_engine
from serving.engines.contract import Loading, Scoring
from serving.online_store.client import OnlineStoreClient
from serving.request import RecommendationRequest, ScoringRequest
from serving.wire_key import wire_key

FOLLOW_S = 0.05
PATIENCE_S = 20.0
"""Seconds for an answer: what a deadline does is tested where it is the point."""


@dataclass
class Engine:
    """An engine, its settings, and an event loop in a thread, as the gateway has one."""

    name: str
    shop: Shop
    settings: Settings
    scoring: Scoring
    loading: Loading
    loop: asyncio.AbstractEventLoop
    server: MlServer | None

    def ask(self, version: str, body: bytes, *, seconds: float = PATIENCE_S) -> tuple[int, dict[str, Any]]:
        """Status and document. TimeoutError: the call was cancelled after `seconds`."""

        async def within() -> tuple[int, bytes, float]:
            return await asyncio.wait_for(self.scoring.score(version, body), seconds)

        status, content, _ = asyncio.run_coroutine_threadsafe(within(), self.loop).result()
        return status, json.loads(content)

    def ask_in_tensors(self, version: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ask with a body of the Open Inference Protocol, as another client of the model server may."""
        if self.name != "oip":
            return self.ask(version, json.dumps(document).encode())
        url = f"{self.settings.serving.oip_url}/v2/models/campaign_ranker-{version}/infer"
        answer = httpx.post(url, json=document, timeout=PATIENCE_S, trust_env=False)
        return answer.status_code, answer.json()

    def body(self, user: str, *, answer_by_us: int | None = None, key: bytes | None = None, **asked: Any) -> bytes:
        """A body as the gateway makes it."""
        request = RecommendationRequest(user_id=user, **asked)
        scoring = ScoringRequest(request=request, as_of_us=self.as_of_us, answer_by_us=answer_by_us)
        return wire.encode(scoring, self.features(user), wire_key(self.settings) if key is None else key)

    def features(self, user: str) -> bytes:
        store = OnlineStoreClient.open(self.settings)
        try:
            packed = store.read(user)
        finally:
            store.close()
        assert packed is not None
        return packed.content

    @property
    def as_of_us(self) -> int:
        return round(self.shop.as_of.timestamp() * 1e6)

    def load(self, version: str) -> None:
        """What the deployer does with a version."""
        self.loading.register(version, Registry(self.settings.home).bundle(version))
        self.loading.wait_ready(version)
        self.loading.check(version)

    def serve(self, version: str) -> None:
        """Let the gateway know that a version is the champion."""
        self.loading.set_default(version)
        Deployed(version).save(ServingState.of(self.settings).root)

    def processes(self) -> list[int]:
        """The processes that score."""
        if self.server is not None:
            return [self.server.process.pid]
        if self.name == "in_process":
            return [pid for pid in _commands(b"in_process.worker") if _parent(pid) == os.getpid()]
        java = find(ServingState.of(self.settings).pid_file("torchserve"))
        assert java is not None
        return [pid for pid in _commands(b"model_service_worker.py") if _parent(pid) == java.pid]

    def kill_a_process(self) -> None:
        """End one with SIGKILL. An MLServer is started again, as Kubernetes does; other engines do that themselves."""
        if self.server is not None:
            self.server.kill()
            self.server.start()
        else:
            os.kill(min(self.processes()), signal.SIGKILL)


def _commands(word: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@contextmanager
def running_engine(name: str, shop: Shop, folder: Path, *, workers: int = 1) -> Iterator[Engine]:
    """Start an engine without any version over a copy of the shop."""
    settings = copied_home(shop, folder / "home")
    settings = with_serving(settings, serving={"engine": name, "workers": workers, **_of(name, folder)})
    with ExitStack() as stack:
        server = stack.enter_context(mlserver(settings, folder)) if name == "oip" else None
        if start_server(settings) is not None:
            stack.callback(stop_torchserve, settings)
        loop = asyncio.new_event_loop()
        scoring = stack.enter_context(_followed(loop, lambda: open_engine(settings, time.perf_counter)))
        engine = Engine(name, shop, settings, scoring, loading(settings), loop, server)
        until(engine.loading.is_up, "the engine is up")
        yield engine


def until(true: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def _of(name: str, folder: Path) -> dict[str, Any]:
    if name != "oip":
        return {}
    return {"oip_url": f"http://127.0.0.1:{free_ports(1)[0]}", "oip_repository": folder / "models"}


@contextmanager
def _followed(loop: asyncio.AbstractEventLoop, open_it: Callable[[], Scoring]) -> Iterator[Scoring]:
    """Run an event loop in a thread, where the engine follows the deployer."""
    ended = threading.Event()
    scoring = open_it()

    async def follow() -> None:
        while not ended.is_set():
            await scoring.follow()
            await asyncio.sleep(FOLLOW_S)
        scoring.close()
        await asyncio.sleep(FOLLOW_S)

    thread = threading.Thread(target=loop.run_until_complete, args=(follow(),))
    thread.start()
    try:
        yield scoring
    finally:
        ended.set()
        thread.join()
        loop.close()
