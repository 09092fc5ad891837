"""An environment with nothing but the `serving` extra, as the serving image has, answers a real request."""

from pathlib import Path

import httpx
import pytest
from bare_environment import bare_environment
from conftest import Shop, candidate
from pod import Pod, wait_until

from recommender.registry import Registry
from recommender.settings import Settings


@pytest.mark.slow
def test_the_serving_extra_alone_answers_a_request(shop: Shop, home: Settings, tmp_path: Path) -> None:
    registry = Registry(home.home)
    champion = registry.add(candidate(shop, tmp_path / "champion"))
    registry.promote(champion)
    python = bare_environment(tmp_path / "bare", extra="serving", packages=("recommender", "serving"))
    with (
        Pod(tmp_path / "pod", home, python=str(python), token="a-token") as pod,
        httpx.Client(base_url=f"http://127.0.0.1:{home.serving.port}", timeout=20, trust_env=False) as client,
    ):
        for name in ("torchserve", "gateway", "deployer"):
            pod.start(name)

        def ready() -> bool:
            said = "\n".join(f"{one.name}: {one.said()}" for one in pod.containers)
            assert all(one.launcher.poll() is None for one in pod.containers), said
            # TorchServe restarts a worker whose import fails until its own limit: fail here without waiting for that.
            workers = pod.state / "logs" / "torchserve.log"
            assert not workers.exists() or "ModuleNotFoundError" not in workers.read_text(), workers.read_text()
            try:
                return bool(client.get("/readyz").json()["details"]["answers"] == "model")
            except httpx.TransportError:
                return False

        wait_until(ready, "the champion answers")
        answer = client.post(
            "/v1/recommendations", json={"user_id": shop.users[0]}, headers={"Authorization": "Bearer a-token"}
        ).json()
    assert answer["model_version"] == champion
    assert answer["degraded"] is False
    assert {one["campaign_id"] for one in answer["campaigns"]} == set(shop.live())
