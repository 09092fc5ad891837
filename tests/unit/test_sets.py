"""A training set opens as it was written, and its labels know no more than their boundary."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import Tables
from recommender.errors import ContractError, CorruptFileError, PeriodError
from recommender.features import build
from recommender.features.histories import take_users
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue

END = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Tables, Path]:
    folder = tmp_path_factory.mktemp("sets")
    shop = Shop.generate(folder / "world")
    tables = shop.write(folder / "tables")
    build(tables, folder / "features", as_of=AS_OF)
    users, pairs = (pq.read_table(folder / "features" / name) for name in ("users.parquet", "pairs.parquet"))
    catalogue = Catalogue.load(folder / "features" / "catalogue")
    write_training_set(users, pairs, catalogue, tables, folder / "set", as_of=AS_OF)
    return shop, tables, folder


@pytest.fixture(scope="module")
def opened(made: tuple[Shop, Tables, Path]) -> TrainingSet:
    return TrainingSet.open(made[2] / "set")


def test_it_holds_one_example_a_pair_with_the_features_of_its_decision(
    made: tuple[Shop, Tables, Path], opened: TrainingSet
) -> None:
    users = pq.read_table(made[2] / "features" / "users.parquet")
    place = opened.all.feature_names.index("behaviour__lines_90d")
    for row in range(0, opened.pairs.num_rows, 50):
        pair = opened.pairs.slice(row, 1).to_pylist()[0]
        at = pc.and_(
            pc.equal(users["user_id"], pair["user_id"]), pc.equal(users["event_timestamp"], pair["decided_at"])
        )
        wanted = users.filter(at)["behaviour__lines_90d"].to_numpy()
        np.testing.assert_array_equal(opened.all.features_NF[row, place], wanted[0])
        assert opened.catalogue.campaign_ids[opened.all.campaigns_N[row]] == pair["campaign_id"]


def test_some_pairs_come_with_their_users_histories_only(opened: TrainingSet) -> None:
    mask = opened.decided_in(datetime(2024, 5, 1, tzinfo=UTC), None)
    some = opened.examples(mask)
    assert len(some.users_N) == mask.sum() > 0
    assert some.users_N.max() + 1 == len(some.histories.basket_offsets) - 1
    whole = take_users(opened.all.histories, opened.all.users_N[mask])
    again = take_users(some.histories, some.users_N)
    np.testing.assert_array_equal(whole.items_T, again.items_T)
    assert (some.histories.age_days_B > 0).all()


def test_a_label_is_known_from_its_moment_on(opened: TrainingSet) -> None:
    everyone = np.ones(opened.pairs.num_rows, dtype=bool)
    redeemed = opened.pairs["redeemed_at"].to_pylist()
    row = next(place for place, moment in enumerate(redeemed) if moment is not None)
    assert opened.labels_at(redeemed[row], everyone).redeemed_N[row] == 0
    assert opened.labels_at(redeemed[row] + timedelta(microseconds=1), everyone).redeemed_N[row] == 1
    assert opened.labels_at(END, everyone).redeemed_N.sum() == sum(moment is not None for moment in redeemed)


def test_spend_is_unknown_while_a_window_is_open_and_everything_before_the_decision(opened: TrainingSet) -> None:
    everyone = np.ones(opened.pairs.num_rows, dtype=bool)
    pair = opened.pairs.slice(0, 1).to_pylist()[0]
    before, inside, after = (
        opened.labels_at(moment, everyone)
        for moment in (pair["decided_at"], pair["decided_at"] + timedelta(days=1), pair["ends_at"])
    )
    assert np.isnan(before.redeemed_N[0])
    assert np.isnan(inside.spend_N[0])
    assert inside.redeemed_N[0] in (0, 1)
    assert after.spend_N[0] == pytest.approx(pair["spend"])
    assert after.excess_N[0] == pytest.approx(pair["excess"])


def test_the_corpus_is_everything_bought_before_its_boundary(
    made: tuple[Shop, Tables, Path], opened: TrainingSet
) -> None:
    boundary = datetime(2024, 4, 1, tzinfo=UTC)
    events = made[0].frames["events"]
    bought = events.filter(pc.and_(pc.equal(events["kind"], "purchase"), pc.less(events["event_time"], boundary)))
    corpus = opened.corpus(boundary)
    assert len(corpus.items_T) == bought.num_rows
    assert len(corpus.age_days_B) == len(
        set(zip(bought["user_id"].to_pylist(), bought["basket_id"].to_pylist(), strict=True))
    )
    assert len(corpus.basket_offsets) - 1 == len(set(bought["user_id"].to_pylist()))
    assert corpus.spend_B.sum() == pytest.approx(sum(bought["amount"].to_pylist()), rel=1e-4)
    assert (corpus.age_days_B > 0).all()
    first = corpus.age_days_B[corpus.basket_offsets[0] : corpus.basket_offsets[1]]
    assert (np.diff(first) <= 0).all()


def test_a_request_scores_one_user_against_every_live_campaign(opened: TrainingSet) -> None:
    live = opened.catalogue.live(round(AS_OF.timestamp() * 1e6))
    requests, num_live = opened.requests(AS_OF, 5)
    assert len(requests) == 5
    assert num_live == len(live) or not len(live)
    assert requests[0]().features_NF.shape == (num_live, len(opened.all.feature_names))


def test_a_pair_without_features_is_named(made: tuple[Shop, Tables, Path], tmp_path: Path) -> None:
    _, tables, folder = made
    users, pairs = (pq.read_table(folder / "features" / name) for name in ("users.parquet", "pairs.parquet"))
    catalogue = Catalogue.load(folder / "features" / "catalogue")
    missing = pairs["user_id"][0].as_py()
    with pytest.raises(ContractError, match=rf"users\.user_id: .*'{missing}'"):
        write_training_set(
            users.filter(pc.not_equal(users["user_id"], missing)), pairs, catalogue, tables, tmp_path / "set"
        )
    with pytest.raises(PeriodError):
        write_training_set(users, pairs.slice(0, 0), catalogue, tables, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_another_folder_is_no_training_set(made: tuple[Shop, Tables, Path]) -> None:
    folder = made[2] / "features"
    with pytest.raises(CorruptFileError, match=re.escape(f"{folder}:")):
        TrainingSet.open(folder)
