"""The Python client against real gateways that refuse for now: it comes back when they say, within its deadline."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Shop
from gateways import Gateway, gateway
from recommender_client import AsyncClient, Client, Recommendations, Unavailable

from recommender.settings import Settings
from recommender.storage.home import Home


def blocking(running: Gateway, token: str | None, deadline_s: float) -> Recommendations:
    with Client(f"{running.client.base_url}", token=token, deadline_s=deadline_s) as client:
        return client.recommend("nobody")


def awaited(running: Gateway, token: str | None, deadline_s: float) -> Recommendations:
    async def ask() -> Recommendations:
        async with AsyncClient(f"{running.client.base_url}", token=token, deadline_s=deadline_s) as client:
            return await client.recommend("nobody")

    return asyncio.run(ask())


Ask = Callable[[Gateway, str | None, float], Recommendations]


def test_a_client_above_its_rate_comes_back_after_the_time_that_the_gateway_names(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: dict[str, Ask] = {"token-of-a-shop": blocking, "token-of-another": awaited}
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("\n".join(clients))
    monkeypatch.setenv("RECOMMENDER_SECRETS", str(tmp_path / "secrets"))
    # One request in five seconds: also a busy machine sends the second one sooner.
    with gateway(home, token_rate_per_s=0.2) as running:
        for token, ask in clients.items():
            assert ask(running, token, 20).campaigns
            began = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                ask(running, token, 2)
            assert refused.value.status == 429
            assert refused.value.retry_after_s in (3, 4, 5)
            assert time.monotonic() - began < refused.value.retry_after_s, "that time lies behind the deadline"
        began = time.monotonic()
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(lambda known: known[1](running, known[0], 30), clients.items()))
        assert all(answer.campaigns for answer in answers)
        assert time.monotonic() - began >= 1
        assert running.metric("recommender_refusals_total", status="429") == 4, "no attempt before its time"


@pytest.mark.parametrize("ask", [blocking, awaited])
def test_a_client_waits_for_a_gateway_that_has_nothing_to_answer_with_yet(shop: Shop, home: Settings, ask: Ask) -> None:
    catalogue, later = Home.of(home).catalogue, home.home / "later"
    shutil.move(catalogue, later)
    with gateway(home) as running:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no champion") as refused:
            ask(running, None, 1.5)
        assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
        assert time.monotonic() - began < 2, "that time lies behind the deadline"
        threading.Timer(0.5, shutil.move, (later, catalogue)).start()
        began = time.monotonic()
        assert ask(running, None, 30).campaigns
        refused_again = running.metric("recommender_refusals_total", status="503") - 1
        assert 1 <= refused_again <= (time.monotonic() - began) / 2, "no attempt before its time"
