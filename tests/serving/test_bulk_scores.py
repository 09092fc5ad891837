"""Scoring all users at once gives the same scores as asking the endpoint per user, with several live campaigns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import Shop, candidate
from feature_sets import read_shopper

from cli.explain import show_explanation
from recommender.allocation.scoring import SCHEMA, BulkScorer
from recommender.datasets.periods import microseconds
from recommender.datasets.time_units import DAY_US
from recommender.decisions.shipping import sealed
from recommender.errors import SourceError
from recommender.matching.packed_history import unpack_histories
from recommender.matching.rerank import Kind, Rerank
from recommender.registry import Registry, bundle
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import shop as serving_shop
from serving.online_store.client import OnlineStoreClient
from serving.request import RecommendationRequest, ScoringRequest
from serving.worker.scoring import score

SMALL: dict[str, dict[str, Any]] = {
    "logistic": {},
    "popularity": {},  # many ties
    "lightgbm": {"rounds": 10},
    "transformer": {"width": 8, "blocks": 1, "members": 1, "pretrain_epochs": 1, "tune_epochs": 1},
}


def scorer_of(shop: Shop, home: Settings, folder: Path, ranker: str) -> BulkScorer:
    registry = Registry(home.home)
    registry.promote(registry.add(candidate(shop, folder, ranker=ranker, **SMALL[ranker])))
    return BulkScorer.open(home.home)


@pytest.mark.parametrize("ranker", SMALL)
def test_each_user_gets_the_scores_and_ranks_of_an_answer(
    shop: Shop, home: Settings, tmp_path: Path, ranker: str
) -> None:
    scorer = scorer_of(shop, home, tmp_path / "candidate", ranker)
    campaigns_C = scorer.live_campaigns()
    scored = pa.Table.from_batches(scorer.score(campaigns_C), SCHEMA)
    assert len(campaigns_C) > 1
    pairs = {(user_id, campaign_id) for user_id in shop.users for campaign_id in shop.live()}
    found = list(zip(scored["user_id"].to_pylist(), scored["campaign_id"].to_pylist(), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == pairs - shop.taken_up()
    assert set(scored["model_version"].to_pylist()) == {scorer.version}
    assert set(scored["as_of"].to_pylist()) == {shop.as_of}

    store = OnlineStoreClient.open(home)
    served, alone = serving_shop.Shop(scorer.catalogue), bundle.load(Registry(home.home).bundle(scorer.version))
    # Batches of one and of hundreds round a transformer's sums differently.
    tolerance = 2e-5 if ranker == "transformer" else 1e-6
    num_without_purchases = 0
    for user_id in shop.users[:50]:
        shopper = read_shopper(store, home, user_id)
        assert shopper is not None
        bought = unpack_histories([shopper.history], np.zeros(1, dtype=np.int64), scorer.catalogue.numbering)
        num_without_purchases += len(bought.items_T) == 0
        request = ScoringRequest(
            request=RecommendationRequest(user_id=user_id, num_items=0), as_of_us=microseconds(shop.as_of)
        )
        asked = score(alone, served, shopper, request).ranking.campaigns
        batch = scored.filter(pc.field("user_id") == user_id).to_pylist()
        assert [row["campaign_id"] for row in batch] == [one["campaign_id"] for one in asked], user_id
        assert [row["rank"] for row in batch] == list(range(1, len(batch) + 1)), user_id
        np.testing.assert_allclose(
            [row["score"] for row in batch], [one["score"] for one in asked], rtol=tolerance, err_msg=user_id
        )
    store.close()
    assert num_without_purchases > 0


@pytest.mark.parametrize("kind", ["mmr", "calibrated"])
def test_a_batch_and_an_answer_re_rank_alike_and_the_explanation_says_from_where(
    shop: Shop, home: Settings, tmp_path: Path, kind: Kind
) -> None:
    by_score = scorer_of(shop, home, tmp_path / "candidate", "logistic")
    rerank = Rerank(kind=kind, trade_off=0.8)
    scorer = BulkScorer.of(home.updated(serving={"rerank": kind, "rerank_trade_off": 0.8}))
    assert scorer.rerank == rerank
    for one in (scorer, by_score):  # two are live, and `mmr` keeps the first: let all be live
        one.catalogue.campaign_starts_C[:] = microseconds(shop.as_of) - 1
        one.catalogue.campaign_ends_C[:] = microseconds(shop.as_of) + 10 * DAY_US
    batches = [pa.Table.from_batches(one.score(one.live_campaigns()), SCHEMA) for one in (scorer, by_score)]
    served, alone = serving_shop.Shop(scorer.catalogue), bundle.load(Registry(home.home).bundle(scorer.version))
    num_moved = 0
    for user_id in shop.users[:50]:
        rows, rows_by_score = (batch.filter(pc.field("user_id") == user_id).to_pylist() for batch in batches)
        shopper = scorer.shopper(user_id)
        assert shopper is not None
        request = RecommendationRequest(user_id=user_id, num_items=0, explain=True, num_campaigns=100)
        asked = ScoringRequest(request=request, as_of_us=microseconds(shop.as_of), rerank=rerank)
        ranking = score(alone, served, shopper, asked).ranking
        order, order_by_score = ([row["campaign_id"] for row in of] for of in (rows, rows_by_score))
        assert order == [one["campaign_id"] for one in ranking.campaigns], user_id
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        assert sorted(order) == sorted(order_by_score)
        for one in ranking.explanations or []:
            if one["place"] is not None:
                assert one["place_by_score"] == order_by_score.index(one["campaign_id"]) + 1
                assert one["place"] == order.index(one["campaign_id"]) + 1
                num_moved += one["place"] != one["place_by_score"]
    assert num_moved > 0


def test_a_score_does_not_depend_on_which_campaigns_are_scored_beside_it(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    scorer = scorer_of(shop, home, tmp_path / "candidate", "logistic")
    together = pa.Table.from_batches(scorer.score(scorer.live_campaigns()), SCHEMA)
    for campaign_id in shop.live():
        alone = pa.Table.from_batches(scorer.score(scorer.campaigns([campaign_id])), SCHEMA)
        beside = together.filter(pc.field("campaign_id") == campaign_id)
        assert alone.drop_columns("rank") == beside.drop_columns("rank"), campaign_id
        assert set(alone["rank"].to_pylist()) == {1}


def test_a_campaign_that_the_user_has_taken_up_is_scored_only_where_repeats_are_allowed(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    assert shop.taken_up()
    once = scorer_of(shop, home, tmp_path / "candidate", "logistic")
    again = BulkScorer.open(home.home, allow_repeats=True)
    once_scored, again_scored = (
        pa.Table.from_batches(scorer.score(scorer.live_campaigns()), SCHEMA).to_pylist() for scorer in (once, again)
    )
    scores = {(row["user_id"], row["campaign_id"]): row["score"] for row in again_scored}
    assert len(again_scored) == len(shop.users) * len(shop.live())
    assert {(row["user_id"], row["campaign_id"]) for row in once_scored} == set(scores) - shop.taken_up()
    assert all(row["score"] == scores[row["user_id"], row["campaign_id"]] for row in once_scored)


def test_progress_counts_every_user_once(shop: Shop, home: Settings, tmp_path: Path) -> None:
    scorer, counted = scorer_of(shop, home, tmp_path / "candidate", "logistic"), []
    for _ in scorer.score(scorer.live_campaigns(), progress=counted.append):
        pass
    assert sum(counted) == scorer.num_users == len(shop.users)
    assert len(counted) > 1


def test_one_user_is_found_by_name(shop: Shop, home: Settings, tmp_path: Path) -> None:
    scorer = scorer_of(shop, home, tmp_path / "candidate", "popularity")
    found = scorer.shopper(shop.users[3])
    assert found is not None
    assert found.user_id == shop.users[3]
    assert scorer.shopper("nobody") is None


def test_without_a_live_campaign_there_is_no_row(shop: Shop, home: Settings, tmp_path: Path) -> None:
    scorer = scorer_of(shop, home, tmp_path / "candidate", "logistic")
    assert pa.Table.from_batches(scorer.score(np.zeros(0, dtype=np.int32)), SCHEMA).num_rows == 0


def test_a_campaign_that_has_ended_is_refused_and_named_with_its_end(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    scorer = scorer_of(shop, home, tmp_path / "candidate", "popularity")
    scorer.catalogue.campaign_ends_C[:] = microseconds(shop.as_of)
    ended = scorer.catalogue.campaign_ids[0]
    with pytest.raises(SourceError, match=rf"'{ended}' ended at {shop.as_of.isoformat()[:10]}"):
        scorer.campaigns([ended])


def test_an_unknown_campaign_is_named_beside_those_that_are_live(shop: Shop, home: Settings, tmp_path: Path) -> None:
    scorer = scorer_of(shop, home, tmp_path / "candidate", "popularity")
    with pytest.raises(SourceError, match="nothing-like-it") as raised:
        scorer.campaigns([shop.live()[0], "nothing-like-it"])
    assert all(campaign_id in str(raised.value) for campaign_id in shop.live())


def test_a_campaign_that_a_user_hid_or_took_up_since_the_run_is_scored_and_explained_for_the_others_only(
    shop: Shop, home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = shop.live()[:2]
    scorer = scorer_of(shop, home, tmp_path / "candidate", "popularity")
    pairs = set(_pairs(scorer))
    tired, fond = sorted({user for user in shop.users if {(user, first), (user, second)} <= pairs})[:2]
    events = [
        ("hide", tired, first),
        ("dislike", tired, second),
        ("like", tired, second),
        ("hide", "nobody", first),
        ("view", fond, first),
        ("participation", fond, second),
    ]
    lines = [
        {"event_id": str(at), "kind": kind, "user_id": user, "campaign_id": one, "time_us": at, "received_us": at}
        for at, (kind, user, one) in enumerate(events)
    ]
    folder = Home.of(home).events
    folder.mkdir()
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    (folder / "20240315-00ff00ff00ff-0.jsonl").write_bytes(sealed(content))
    assert pairs - set(_pairs(BulkScorer.open(home.home))) == {(tired, first), (fond, second)}
    assert pairs - set(_pairs(BulkScorer.open(home.home, allow_repeats=True))) == {(tired, first)}
    explained = {
        (tired, first): "No candidate: the user has hidden",
        (tired, second): "Place",
        (fond, first): "Place",
        (fond, second): "No candidate: the user has taken it up",
    }
    for (user, campaign_id), start in explained.items():
        show_explanation(home, user, campaign_id)
        assert capsys.readouterr().out.splitlines()[1].startswith(start)


def _pairs(scorer: BulkScorer) -> list[tuple[str, str]]:
    scored = pa.Table.from_batches(scorer.score(scorer.live_campaigns()), SCHEMA)
    return list(zip(scored["user_id"].to_pylist(), scored["campaign_id"].to_pylist(), strict=True))
