"""An environment with nothing but the `serving` extra answers a real request, and its command shows what serves."""

import subprocess
from pathlib import Path

import httpx
import pytest
from bare_environment import bare_environment
from conftest import Shop, candidate
from pod import Pod, wait_until

from components.images import PIPELINE_IMAGE
from recommender.registry import Registry
from recommender.settings import Settings


@pytest.mark.slow
def test_the_serving_extra_alone_answers_a_request(shop: Shop, home: Settings, tmp_path: Path) -> None:
    registry = Registry(home.home)
    champion = registry.add(candidate(shop, tmp_path / "champion"))
    registry.promote(champion)
    python = bare_environment(tmp_path / "bare", extras=("serving",), dockerfile="serving/Dockerfile")
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
        shown, cleaned = (_command(python, pod, verb) for verb in ("status", "clean"))
    assert answer["model_version"] == champion
    assert answer["degraded"] is False
    assert {one["campaign_id"] for one in answer["campaigns"]} == set(shop.live())
    assert shown.returncode == 0, shown.stderr
    assert champion in shown.stdout
    assert cleaned.returncode == 2
    assert PIPELINE_IMAGE.rpartition("/")[2] in cleaned.stderr


def _command(python: Path, pod: Pod, verb: str) -> subprocess.CompletedProcess[str]:
    """What `kubectl exec deploy/campaign-serving -c deployer -- recommender VERB` does."""
    settings = {"RECOMMENDER_SETTINGS": str(pod.folder / "settings" / "recommender.toml"), "COLUMNS": "200"}
    command = [str(python.with_name("recommender")), verb]
    return subprocess.run(command, cwd=pod.folder, env=settings, capture_output=True, text=True, check=False)
