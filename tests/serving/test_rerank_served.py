"""An endpoint that re-ranks answers in the order of `recommender score` with the same settings, and records it."""

from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import Shop, candidate, with_serving

from recommender.allocation.scoring import SCHEMA, BulkScorer
from recommender.decisions.log import find, folders_of
from recommender.registry import Registry
from recommender.settings import Settings
from serving.deployer.endpoint import serve


@pytest.mark.slow
def test_answers_follow_the_batch_and_their_records_name_the_re_ranking(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    registry = Registry(home.home)
    registry.promote(registry.add(candidate(shop, tmp_path / "candidate")))
    rerank = {"rerank": "calibrated", "rerank_trade_off": 0.9}
    settings = with_serving(home, serving=home.serving.model_copy(update=rerank))
    orders = []
    for each in (settings, home):
        scorer = BulkScorer.of(each)
        orders.append(pa.Table.from_batches(scorer.score(scorer.live_campaigns()), SCHEMA))

    def order(of: pa.Table, user: str) -> list[str]:
        return list(of.filter(pc.field("user_id") == user)["campaign_id"].to_pylist())

    moved = [user for user in shop.users if order(orders[0], user) != order(orders[1], user)][:5]
    assert moved
    with serve(settings) as deployment, httpx.Client(base_url=deployment.url, timeout=20) as client:
        for user in moved:
            answer = client.post("/v1/recommendations", json={"user_id": user, "explain": True}).json()
            assert [one["campaign_id"] for one in answer["campaigns"]] == order(orders[0], user)
            assert any(one["place"] != one["place_by_score"] for one in answer["explanations"])
            record = find(folders_of(settings), answer["request_id"])
            assert record["rerank"] == {"kind": "calibrated", "trade_off": 0.9}
