"""The health port tells a gateway that is alive from one whose event loop hangs, and answers nothing else."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from servers import free_ports

from recommender.settings import ServingSettings
from serving.answer import Health
from serving.gateway.front import Front
from serving.gateway.health import HUNG_S, HealthServer
from serving.gateway.metrics import Metrics
from serving.gateway.tokens import Tokens


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("a-token")
    monkeypatch.setenv("RECOMMENDER_SECRETS", str(tmp_path))


async def _statuses(silent_s: float, *paths: str) -> list[int]:
    """What a health port answers beside an event loop that had no time for housekeeping for so long."""
    metrics = Metrics()
    serving = ServingSettings(health_port=free_ports(1)[0])
    front = Front(serving, Tokens(None, metrics), metrics)
    front.beat_s = time.monotonic() - silent_s

    async def ready() -> Health:
        return Health(status="ready")

    async def figures() -> bytes:
        return metrics.text()

    server = HealthServer(serving, front, ready, figures)
    server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{serving.health_port}", trust_env=False) as client:
            for _ in range(100):
                try:
                    await client.get("/metrics")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            return [(await client.get(path)).status_code for path in paths]
    finally:
        server.stop()


def test_an_event_loop_that_hangs_is_a_gateway_that_is_not_alive() -> None:
    assert asyncio.run(_statuses(0, "/healthz")) == [200]
    assert asyncio.run(_statuses(HUNG_S + 1, "/healthz")) == [503]


@pytest.mark.usefixtures("secrets")
def test_it_asks_for_no_token_and_has_no_other_paths() -> None:
    paths = ("/healthz", "/readyz", "/metrics", "/v1/recommendations", "/openapi.json")
    assert asyncio.run(_statuses(0, *paths)) == [200, 200, 200, 404, 404]
