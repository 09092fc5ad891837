"""An endpoint that explores says in its records how likely it was to show what it showed."""

from pathlib import Path

import httpx
import pytest
from conftest import Shop, candidate, with_serving

from recommender.decisions.log import find, folders_of
from recommender.registry import Registry
from recommender.settings import Settings
from serving.deployer.endpoint import serve

RATE = 0.4


@pytest.mark.slow
def test_every_record_of_an_exploring_endpoint_holds_the_propensity_of_what_was_shown(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    registry = Registry(home.home)
    registry.promote(registry.add(candidate(shop, tmp_path / "candidate")))
    explores = {"exploration": "epsilon", "exploration_rate": RATE}
    settings = with_serving(home, serving=home.serving.model_copy(update=explores))
    live = shop.live()
    firsts = []
    with serve(settings) as deployment, httpx.Client(base_url=deployment.url, timeout=20) as client:
        for user in (shop.users[0], "never seen"):
            for _ in range(30):
                answer = client.post("/v1/recommendations", json={"user_id": user, "num_campaigns": 3}).json()
                assert answer["degraded"] is False
                record = find(folders_of(settings), answer["request_id"])
                explored = record["exploration"]
                assert (explored["kind"], explored["rate"], explored["num_candidates"]) == ("epsilon", RATE, len(live))
                firsts.append((user, answer["campaigns"][0]["campaign_id"], explored["first_propensity"]))
    best, other = RATE / len(live) + 1 - RATE, RATE / len(live)
    for user in (shop.users[0], "never seen"):
        told = {name: p for one, name, p in firsts if one == user}
        assert len(told) > 1
        assert sorted(told.values())[-1] == pytest.approx(best)
        assert sorted(told.values())[:-1] == pytest.approx([other] * (len(told) - 1))
