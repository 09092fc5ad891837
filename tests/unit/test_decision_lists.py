"""The lists in a training set are those that the worker answers with, for each user's last decision in a period."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_examples import fit_ranker

from recommender import features
from recommender.datasets.periods import Periods, microseconds, resolve
from recommender.datasets.synthetic import World, generate
from recommender.errors import CorruptFileError
from recommender.features import decision_lists
from recommender.features.shoppers import shoppers_of
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.settings import Settings
from serving.request import RecommendationRequest, ScoringRequest
from serving.shop import Shop
from serving.worker.scoring import score


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, Path, Periods]:
    folder = tmp_path_factory.mktemp("lists")
    tables = generate(World.small(num_users=300), folder / "tables")
    periods = resolve(Settings(), tables)
    made = features.build(tables, folder / "features", as_of=periods.as_of, threads=1)
    bounds = [periods.gate_from, periods.test_from, periods.as_of]
    users, pairs = (pq.read_table(made / f"{name}.parquet") for name in ("users", "pairs"))
    catalogue = Catalogue.load(made / "catalogue")
    for name, some in (("set", bounds), ("without", [])):
        write_training_set(users, pairs, catalogue, tables, folder / name, as_of=periods.as_of, list_bounds=some)
    return TrainingSet.open(folder / "set"), made, periods


def test_each_list_has_the_campaigns_items_and_scores_of_an_answer(built: tuple[TrainingSet, Path, Periods]) -> None:
    data, made, periods = built
    everyone = np.ones(data.pairs.num_rows, dtype=bool)
    ranker = fit_ranker("logistic", data.examples(everyone), data.labels_at(periods.as_of, everyone))
    shoppers = {(s.user_id, s.feature_time_us): s for s in shoppers_of(pq.read_table(made / "users.parquet"))}
    lists, shop = data.lists, Shop(data.catalogue)
    score_M = ranker.score(lists.examples).redeem_N
    assert len(lists.users) > 100
    for one in range(0, len(lists.users), 5):
        own = np.arange(lists.offsets[one], lists.offsets[one + 1])
        moment_us = int(lists.moments_us_L[one])
        request = RecommendationRequest(user_id=lists.users[one], num_campaigns=100)
        answer = score(
            ranker, shop, shoppers[lists.users[one], moment_us], ScoringRequest(request=request, as_of_us=moment_us)
        )
        ranked = own[np.argsort(-score_M[own], kind="stable")]
        campaigns = answer.ranking.campaigns
        ids = [data.catalogue.campaign_ids[row] for row in lists.examples.campaigns_N[ranked]]
        assert ids == [campaign["campaign_id"] for campaign in campaigns]
        np.testing.assert_allclose(score_M[ranked], [campaign["score"] for campaign in campaigns], rtol=1e-5)
        for row, campaign in zip(lists.items_MI[ranked], campaigns, strict=True):
            assert [data.catalogue.item_ids[item] for item in row if item] == [
                item["item_id"] for item in campaign["items"]
            ]


def test_a_period_has_each_users_last_decision_in_it(built: tuple[TrainingSet, Path, Periods]) -> None:
    data, _, periods = built
    decided_us_N, users_N = data.times_us("decided_at"), data.pairs["user_id"].to_pylist()
    for starts, ends in ((periods.gate_from, periods.test_from), (periods.test_from, periods.as_of)):
        last: dict[str, int] = {}
        for user, us in zip(users_N, decided_us_N.tolist(), strict=True):
            if microseconds(starts) <= us < microseconds(ends):
                last[user] = max(us, last.get(user, 0))
        found = data.lists.last_in(starts, ends)
        assert dict(zip(found.users, found.moments_us_L.tolist(), strict=True)) == last


def test_of_many_users_a_sample_is_kept_the_same_each_time(
    built: tuple[TrainingSet, Path, Periods], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, made, periods = built
    shoppers = shoppers_of(pq.read_table(made / "users.parquet"))
    monkeypatch.setattr(decision_lists, "MAX_LISTS_A_PERIOD", 20)
    for name in ("one", "two"):
        decision_lists.write_lists(
            shoppers, range(len(shoppers)), data.catalogue, [periods.gate_from, periods.test_from], tmp_path / name
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    kept = decision_lists.read_lists(tmp_path / "one", data.catalogue, data.all.feature_names, data.all.histories)
    assert 15 <= len(kept.users) <= 20, "a user without a candidate has no list"


def test_a_set_without_periods_has_no_lists_and_one_of_before_says_what_to_do(
    built: tuple[TrainingSet, Path, Periods],
) -> None:
    data, _, periods = built
    without = TrainingSet.open(data.folder.parent / "without")
    assert without.lists.users == ()
    assert without.lists.last_in(periods.gate_from, periods.as_of).users == ()
    (without.folder / decision_lists.FILE).unlink()
    with pytest.raises(CorruptFileError, match=r"lists\.safetensors.*build it again"):
        _ = TrainingSet(without.folder, without.manifest, without.pairs, without.catalogue, without.all).lists
