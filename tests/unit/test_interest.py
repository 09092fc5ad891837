"""Searches, reviews and the seconds of a view change the interest of a shopper who never bought, exact in time."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import open_tables
from recommender.engine.context import FitContext
from recommender.events.contract import Event, Stamped
from recommender.events.fold import Fold
from recommender.events.tail import Readings, line_of
from recommender.features import build
from recommender.features.look_events import item_looks
from recommender.features.look_weights import look_weights
from recommender.features.shoppers import shoppers_of
from recommender.features.source import open_source
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching import examples
from recommender.matching.affinity import AXES, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.look_rules import DWELL_S, LOOK_UNIT, MOST_DWELT, WEIGHTS, LookRules
from recommender.matching.packed_user import PackedUser, pack, unpack
from recommender.matching.search_words import MOST_TIED, WordIndex, words_of
from recommender.models.campaign import ranker_class
from recommender.settings import LookSettings
from recommender.training.train import fit_at

GATE = AS_OF - timedelta(days=30)
SEARCHED = {"by-words": "Teas!", "by-encoder": "espresso", "in-vain": "xqzt"}
RATED = {"glad": 5.0, "cross": 1.0}
DWELT = {"glance": 5.0, "look": DWELL_S, "stay": 7_000.0}
WORDS = {"glad-in-words": "I love it, the best that I ever had.", "cross-in-words": "Awful, I hated it. Never again."}
GOOD = ("Wonderful, we love it", "Great taste, will buy it again", "The best one, excellent", "Very good and fresh")
BAD = ("Terrible, a waste of money", "Awful taste, I threw it away", "The worst one, horrible", "Stale and bad")


def interested(tmp: Path) -> tuple[Shop, str]:
    """A shop with shoppers who never bought, each of whom did one thing about one item, and that item."""
    shop = Shop.generate(tmp / "world")
    items = shop.frames["items"]
    item = items["item_id"][items["category"].to_pylist().index("Bread")].as_py()
    events: list[dict[str, Any]] = [
        *({"kind": "search", "query": words, "user_id": user} for user, words in SEARCHED.items()),
        *({"kind": "review", "rating": rating, "user_id": user} for user, rating in RATED.items()),
        *({"kind": "view", "dwell_s": seconds, "user_id": user} for user, seconds in DWELT.items()),
        *({"kind": "view", "user_id": user} for user in (*RATED, *WORDS)),
        *({"kind": "review", "text": text, "user_id": user} for user, text in WORDS.items()),
    ]
    users = sorted({event["user_id"] for event in events})
    for event in events:
        event["event_time"] = AS_OF - timedelta(hours=1)
        if event["kind"] != "search":
            event["item_id"] = item
    reviewers = shop.frames["users"]["user_id"].to_pylist()
    events += [
        {
            "kind": "review",
            "user_id": reviewers[k % len(reviewers)],
            "item_id": item,
            "rating": rating,
            "text": f"{words[k % len(words)]} {'indeed' if k % 3 else 'truly'}.",
            "event_time": GATE - timedelta(hours=1 + k),
        }
        for rating, words in ((5.0, GOOD), (1.0, BAD))
        for k in range(120)
    ]
    frame = shop.frames["events"]
    for name, kind in (("dwell_s", pa.float64()), ("text", pa.string())):
        frame = frame.append_column(name, pa.nulls(len(frame), kind))
    shop = Shop({**shop.frames, "events": frame}).adding("users", [{"user_id": user} for user in users])
    return shop.adding("events", [{"event_id": f"own-{k}", **event} for k, event in enumerate(events)]), item


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, str]:
    return interested(tmp_path_factory.mktemp("shop"))


class Built:
    """A feature set, and what its users looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users, self.catalogue = pq.read_table(folder / "users.parquet"), Catalogue.load(folder / "catalogue")
        self.schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))["looks"]

    def row(self, user: str) -> Shopper:
        return shoppers_of(self.users.filter((pc.field("user_id") == user) & (pc.field("event_timestamp") == AS_OF)))[0]

    def looked(self, user: str, axis: str) -> dict[str, float]:
        looks = unpack_user(self.row(user).affinity, self.catalogue.numbering).looks
        if not looks.values:
            return {}
        place = AXES.index(axis)
        names = self.catalogue.item_ids if axis == "product" else self.catalogue.axis_values[place]
        pairs = zip(looks.values[place].tolist(), looks.weights[place].tolist(), strict=True)
        return {names[value]: weight / LOOK_UNIT for value, weight in pairs}


def built(shop: Shop, folder: Path, **settings: Any) -> Built:
    looks = LookSettings(learn=False, **settings)
    tables = shop.write(folder / "tables")
    made = build(tables, folder / "set", as_of=AS_OF, facts=False, looks=looks, learn_looks_before=GATE)
    return Built(made)


@pytest.fixture(scope="module")
def with_encoder(shop: tuple[Shop, str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(shop[0], tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def by_words(shop: tuple[Shop, str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(shop[0], tmp_path_factory.mktemp("words"), encoder=False)


def test_a_shopper_who_never_bought_but_searched_gets_the_campaigns_of_that_category(
    by_words: Built, tmp_path: Path
) -> None:
    folder, catalogue = by_words.folder, by_words.catalogue
    pairs, tables = pq.read_table(folder / "pairs.parquet"), open_tables(folder.parent / "tables")
    data = write_training_set(by_words.users, pairs, catalogue, tables, tmp_path / "set", as_of=AS_OF)
    logistic = ranker_class("logistic")
    fitted = fit_at(logistic, TrainingSet.open(data), AS_OF, logistic.Config(), FitContext(seed=1, device="cpu"))

    def categories(user: str, *events: Event) -> list[str]:
        """Of the campaigns, the best one first, after events that just came."""
        row = by_words.row(user)
        tail = b"".join(line_of(Stamped(event, row.feature_time_us), "segment") for event in events)
        packed = replace(PackedUser.check(pack(row)), tail=tail)
        content = Fold(catalogue, Readings({})).folded(user, packed, row.portrait_names, row.feature_time_us)
        shopper = unpack(user, content, {packed.layout: row.portrait_names})
        rows_C = np.arange(len(catalogue.campaign_ids), dtype=np.int32)
        decided_C = np.full(len(rows_C), row.feature_time_us)
        joined = examples.build([shopper], np.zeros(len(rows_C), np.int32), rows_C, catalogue, decided_C)
        order_C = np.argsort(-fitted.score(joined).redeem_N, kind="stable")
        firsts = [catalogue.items_of(int(campaign))[0] for campaign in order_C]
        return [catalogue.axis_values[2][catalogue.item_axes_VA[item, 2]] for item in firsts]

    assert categories("by-words")[0] == "Tea"
    assert categories("in-vain")[0] != "Tea"
    asked = Event(event_id="just-now", user_id="in-vain", kind="search", query="organic teas")
    assert categories("in-vain", asked)[0] == "Tea"


def aged(weight: float, half_life_days: float) -> float:
    return weight * 0.5 ** (1 / 24 / half_life_days)


def test_a_search_is_interest_in_the_values_that_its_words_name(by_words: Built) -> None:
    searched = aged(WEIGHTS["search"], 14)
    assert by_words.looked("by-words", "category") == pytest.approx({"Tea": searched}, abs=2 / LOOK_UNIT)
    types = by_words.looked("by-words", "product_type")
    assert set(types) == {"Tea, classic", "Tea, organic", "Tea, family"}
    assert sum(types.values()) == pytest.approx(searched, abs=4 / LOOK_UNIT)
    assert by_words.looked("by-words", "brand") == {}
    assert by_words.looked("by-encoder", "category") == by_words.looked("in-vain", "category") == {}
    assert by_words.schema["searches"]["encoder"] is None
    assert by_words.schema["searches"]["without_match"] == 2


def test_the_encoder_matches_searches_that_no_name_answers(with_encoder: Built, by_words: Built) -> None:
    assert set(with_encoder.looked("by-encoder", "category")) == {"Coffee"}
    assert with_encoder.looked("in-vain", "category") == {}
    assert with_encoder.looked("by-words", "category") == by_words.looked("by-words", "category")
    said = with_encoder.schema["searches"]
    assert (said["by_encoder"], said["without_match"]) == (1, 1)
    assert said["by_words"] > 3


def test_a_view_counts_by_its_seconds(by_words: Built, shop: tuple[Shop, str]) -> None:
    item = shop[1]
    expected = {"glance": np.log2(1 + 5 / DWELL_S), "look": 1.0, "stay": MOST_DWELT}
    for user, strength in expected.items():
        looked = by_words.looked(user, "product")
        assert looked == pytest.approx({item: aged(float(strength), 14)}, abs=3 / LOOK_UNIT)


def test_a_good_review_adds_to_interest_and_a_bad_one_takes_it_away(by_words: Built, shop: tuple[Shop, str]) -> None:
    mean, spread = by_words.schema["rating_mean"], by_words.schema["rating_spread"]
    events = shop[0].frames["events"]
    ratings = events.filter((pc.field("kind") == "review") & (pc.field("event_time") < GATE))["rating"].drop_null()
    assert mean == pytest.approx(pc.mean(ratings).as_py(), abs=0.01)
    assert spread == pytest.approx(pc.stddev(ratings).as_py(), abs=0.01)
    view, above = aged(1.0, 14), aged(WEIGHTS["review"], 90) * (5.0 - mean) / spread
    assert by_words.looked("glad", "product") == pytest.approx({shop[1]: view + above}, abs=4 / LOOK_UNIT)
    assert by_words.looked("cross", "product") == by_words.looked("cross", "category") == {}


def test_words_of_a_review_stand_in_for_its_rating(with_encoder: Built, by_words: Built) -> None:
    without = by_words.looked("glad-in-words", "category")["Bread"]
    assert with_encoder.looked("glad-in-words", "category")["Bread"] > without + 0.3
    assert with_encoder.looked("cross-in-words", "category") == {}
    assert by_words.looked("cross-in-words", "category") == {"Bread": without}
    said = with_encoder.schema["reviews"]
    assert (said["fitted_on"], said["texts"]) == (240, 2)
    assert said["explained"] > 0.5
    assert "reviews" not in by_words.schema


def test_reviews_count_nothing_where_too_few_say_what_is_usual(by_words: Built, tmp_path: Path) -> None:
    source = open_source(open_tables(by_words.folder.parent / "tables"), AS_OF, threads=1, spill=tmp_path)
    early = source.table("events").event_time.min().to_pyarrow().as_py() + timedelta(days=5)
    rules = look_weights(source, LookSettings(encoder=False), early).rules
    assert rules.rating_mean is None
    kinds = item_looks(source, rules, None).select("kind").distinct().to_pyarrow()["kind"].to_pylist()
    assert sorted(kinds) == ["cart", "click", "view"]
    assert by_words.schema["rating_mean"] is not None


def test_later_searches_reviews_and_views_change_no_bit_of_an_earlier_decision(
    shop: tuple[Shop, str], by_words: Built, tmp_path: Path
) -> None:
    targets = shop[0].frames["targets"].filter((pc.field("targeted_at") > GATE) & (pc.field("targeted_at") < AS_OF))
    user, moment = targets["user_id"][0].as_py(), targets["targeted_at"][0].as_py()
    same = {"user_id": user, "event_time": moment}
    later = [
        {"event_id": "later-1", "kind": "search", "query": "Bread", **same},
        {"event_id": "later-2", "kind": "review", "item_id": shop[1], "rating": 1.0, **same},
        {"event_id": "later-3", "kind": "view", "item_id": shop[1], "dwell_s": 50.0, **same},
    ]
    planted = built(shop[0].adding("events", later), tmp_path, encoder=False)
    known = (pc.field("user_id") == user) & (pc.field("event_timestamp") <= pa.scalar(moment))
    assert repr(by_words.users.filter(known).to_pylist()) == repr(planted.users.filter(known).to_pylist())
    assert planted.looked(user, "category") != by_words.looked(user, "category")


def test_words_are_compared_without_case_plural_or_blanks_that_a_script_lacks() -> None:
    assert words_of("Ice CREAMS, 500 g") == ("ice", "cream", "500", "g")
    assert words_of("绿茶叶") == ("绿茶", "茶叶")
    index = WordIndex(["", "绿茶叶", "Green tea", "Glass"], [["", "a"], ["", "Tea", "Ice tea", "Glass", "Press"]])
    assert [(part.axis, part.value) for part in index.match("绿茶").parts] == [(0, 1)]
    assert [(part.axis, part.value) for part in index.match("teas").parts] == [(0, 2), (1, 1)]
    assert index.match("ice tea").is_whole
    assert not index.match("cheap tea").is_whole
    assert index.match("").parts == index.match("glas").parts == ()


def test_a_word_that_too_many_values_share_says_nothing() -> None:
    names = ["", *(f"{letter * 4} tea" for letter in "abcdefghijklmn")]
    assert len(names) - 1 > MOST_TIED
    index = WordIndex(names, [names])
    assert index.match("tea") == ((), False)
    assert len(index.match("aaaa tea").parts) == 1


def test_strengths_of_views_and_reviews_are_bounded() -> None:
    rules = LookRules({}, {}, rating_mean=4.0, rating_spread=0.5)
    assert rules.dwelt(DWELL_S) == LOOK_UNIT
    assert rules.dwelt(0.0) == 0
    assert (rules.rated(5.0), rules.rated(1.0)) == (2 * LOOK_UNIT, -2 * LOOK_UNIT)
    assert LookRules.by_hand().rated(5.0) == 0
