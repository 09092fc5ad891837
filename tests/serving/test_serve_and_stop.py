"""`recommender serve` and `recommender stop` as a person types them, one right after the other."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from conftest import Shop, candidate

from recommender.registry import Registry
from recommender.settings import Settings
from serving.deployer.endpoint import Deployment, stop

COMMAND = Path(sys.executable).parent / "recommender"
START_S = 60.0


def serve(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start the endpoint as a background process, and wait until it says that it serves."""
    started = subprocess.Popen([COMMAND, "serve"], env=environment, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    said = [started.stdout.readline()]
    while said[-1] and "serving on" not in said[-1]:
        said.append(started.stdout.readline())
    assert said[-1], f"ended: {said}"
    return started


def test_stop_returns_when_serve_has_ended_so_that_the_next_one_is_not_taken_for_it(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    registry = Registry(home.home)
    registry.promote(registry.add(candidate(shop, tmp_path / "candidate", ranker="popularity")))
    environment = {
        **os.environ,
        "RECOMMENDER__HOME": str(home.home),
        "RECOMMENDER__TIME__AS_OF": shop.as_of.isoformat(),
        "RECOMMENDER__SERVING__ENGINE": "in_process",
        "RECOMMENDER__SERVING__WORKERS": "1",
        "RECOMMENDER__SERVING__PORT": str(home.serving.port),
    }
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(2):
            running.append(serve(environment))
            url = f"{Deployment(home).url}/v1/recommendations"
            assert httpx.post(url, json={"user_id": shop.users[0]}, trust_env=False).status_code == 200
            said = subprocess.run([COMMAND, "stop"], env=environment, capture_output=True, text=True, timeout=START_S)
            assert (said.returncode, said.stdout.strip()) == (0, "stopped"), said.stderr
            assert running[-1].poll() == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(url, trust_env=False)
    finally:
        stop(home)
        for one in running:
            with suppress(ProcessLookupError):
                one.kill()
            one.communicate()
