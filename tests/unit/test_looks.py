"""Which item a view, click, cart, like or favourite was about changes features, exact in time."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.errors import FeatureStoreError
from recommender.features import build
from recommender.features.shoppers import shoppers_of
from recommender.matching import affinity, examples, packed_history
from recommender.matching.affinity import AXES, LOOK_NAMES
from recommender.matching.catalogue import Catalogue
from recommender.matching.look_baskets import MAX_LOOK_BASKETS, MOST_LINES, LookBaskets
from recommender.matching.look_rules import HALF_LIFE_DAYS, KINDS, LOOK_UNIT, WEIGHTS, LookRules
from recommender.matching.looks import LOOKED, Looks
from recommender.matching.single_looks import ITEM, SINGLE

LOOKED_AGO = {"view": 14.0, "click": 1.0, "cart": 30.0, "like": 3.0, "favourite": 2.0}
"""Kind -> days before `AS_OF` on which the one who only looks did it."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one shopper who looks at the first item of the first campaign in every way, and buys nothing."""
    shop = Shop.generate(tmp_path_factory.mktemp("world") / "tables")
    item = shop.frames["campaign_items"]["item_id"][0].as_py()
    looks = [
        {
            "event_id": f"look-{kind}",
            "user_id": "looker",
            "kind": kind,
            "item_id": item,
            "event_time": AS_OF - timedelta(days=days),
        }
        for kind, days in LOOKED_AGO.items()
    ]
    return shop.adding("users", [{"user_id": "looker"}]).adding("events", looks)


@pytest.fixture(scope="module")
def features(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(shop, tmp_path_factory.mktemp("features"))


def built(shop: Shop, folder: Path) -> Path:
    return build(shop.write(folder / "tables"), folder / "features", as_of=AS_OF, facts=False)


def pairs_at(features: Path, moment: datetime) -> tuple[dict[str, int], examples.Examples, Catalogue]:
    """Everyone's features for every campaign: user -> place among the users, pairs by user and then campaign."""
    users, catalogue = pq.read_table(features / "users.parquet"), Catalogue.load(features / "catalogue")
    shoppers = shoppers_of(
        users.filter(pc.equal(users["event_timestamp"], pa.scalar(moment, users["event_timestamp"].type)))
    )
    num = len(catalogue.campaign_ids)
    users_N = np.repeat(np.arange(len(shoppers)), num).astype(np.int32)
    campaigns_N = np.tile(np.arange(num), len(shoppers)).astype(np.int32)
    decided_N = np.full(len(users_N), shoppers[0].feature_time_us)
    places = {shopper.user_id: place for place, shopper in enumerate(shoppers)}
    return places, examples.build(shoppers, users_N, campaigns_N, catalogue, decided_N), catalogue


def test_a_shopper_who_only_looked_has_an_affinity_by_kind_and_age(shop: Shop, features: Path) -> None:
    places, pairs, catalogue = pairs_at(features, AS_OF)
    expected = sum(WEIGHTS[kind] * 0.5 ** (days / HALF_LIFE_DAYS[kind]) for kind, days in LOOKED_AGO.items())
    campaign = catalogue.campaign_rows[shop.frames["campaign_items"]["campaign_id"][0].as_py()]
    row = pairs.features_NF[places["looker"] * len(catalogue.campaign_ids) + campaign]
    value = dict(zip(pairs.feature_names, row.tolist(), strict=True))
    assert value[LOOKED] == pytest.approx(expected, abs=len(LOOKED_AGO) / LOOK_UNIT)
    for axis in AXES:
        assert value[f"affinity__{axis}__looked"] == pytest.approx(value[LOOKED])
        assert value[f"affinity__{axis}__looked_share"] == 1.0
    assert value["affinity__product__lines_per_month"] == 0.0


def test_blanking_the_items_of_looks_changes_features_and_leaves_those_of_purchases(
    shop: Shop, features: Path, tmp_path: Path
) -> None:
    events = shop.frames["events"]
    is_look = pc.is_in(events["kind"], pa.array(list(WEIGHTS)))
    blank = pc.if_else(is_look, pa.scalar(None, pa.string()), events["item_id"])
    position = events.column_names.index("item_id")
    blanked = Shop({**shop.frames, "events": events.set_column(position, "item_id", blank).drop_columns(["query"])})
    _, before, _ = pairs_at(features, AS_OF)
    _, after, _ = pairs_at(built(blanked, tmp_path), AS_OF)
    of_looks = {LOOKED, *LOOK_NAMES}
    assert set(before.feature_names) - set(after.feature_names) == of_looks
    others = [k for k, name in enumerate(before.feature_names) if name not in of_looks]
    np.testing.assert_array_equal(before.features_NF[:, others], after.features_NF)


def test_looks_at_a_decision_or_later_change_no_bit_of_it(shop: Shop, features: Path, tmp_path: Path) -> None:
    items = shop.frames["items"]["item_id"].to_pylist()
    decision = shop.frames["targets"].sort_by([("targeted_at", "ascending"), ("user_id", "ascending")]).slice(300, 1)
    user, moment = decision["user_id"][0].as_py(), decision["targeted_at"][0].as_py()
    later = [
        {
            "event_id": f"later-{k}",
            "user_id": user,
            "kind": "cart",
            "item_id": items[k],
            "event_time": moment + timedelta(days=k),
        }
        for k in range(20)
    ]
    planted = pq.read_table(built(shop.adding("events", later), tmp_path) / "users.parquet")
    before = pq.read_table(features / "users.parquet")
    of_user = pc.and_(pc.equal(before["user_id"], user), pc.less_equal(before["event_timestamp"], pa.scalar(moment)))
    assert repr(before.filter(of_user).to_pylist()) == repr(planted.filter(of_user).to_pylist())
    assert not before.equals(planted)


def test_each_decision_knows_the_days_baskets_of_what_was_looked_at_before_it(shop: Shop, features: Path) -> None:
    catalogue = Catalogue.load(features / "catalogue")
    rules = catalogue.look_rules
    assert rules is not None
    looks: dict[str, list[tuple[datetime, tuple[int, int, int, int, int]]]] = {}
    for event in shop.frames["events"].to_pylist():
        kind, moment = event["kind"], event["event_time"]
        if kind in KINDS and kind != "review":  # Which count nothing, because nothing was learnt.
            at = KINDS.index(kind), int(moment.timestamp())
            found = [(ITEM, catalogue.item_rows.get(event["item_id"], 0), LOOK_UNIT)]
            if kind == "search":
                found = list(catalogue.words.match(event["query"]).parts)
            looks.setdefault(event["user_id"], []).extend((moment, (at[0], *part, at[1])) for part in found)
    sizes = set[int]()
    for row in pq.read_table(features / "users.parquet", columns=["user_id", "event_timestamp", "history"]).to_pylist():
        own = [look for moment, look in looks.get(row["user_id"], []) if moment < row["event_timestamp"]]
        expected = LookBaskets.none().with_looks(np.array(own, dtype=SINGLE), rules)
        history = packed_history.unpack_history(row["history"], catalogue.numbering)
        assert packed_history.unpack_looks(row["history"], history).pack() == expected.pack(), row["user_id"]
        sizes |= {len(expected.time_s_B), int(expected.lines_B.max(initial=0))}
    assert {1, 2, 3} < sizes


def test_a_day_keeps_each_item_once_by_its_strongest_look_and_the_strongest_items() -> None:
    rules = LookRules.by_hand()
    view, cart, review = (KINDS.index(kind) for kind in ("view", "cart", "review"))
    day = 86_400 * 19_000
    looks = [(view, ITEM, row, LOOK_UNIT, day + 2 * row) for row in range(1, MOST_LINES + 4)]
    looks += [(cart, ITEM, 2, LOOK_UNIT, day), (review, ITEM, 40, -LOOK_UNIT, day), (view, 0, 50, 2 * LOOK_UNIT, day)]
    found = LookBaskets.none().with_looks(np.array(looks[::-1], dtype=SINGLE), rules)
    assert found.time_s_B.tolist() == [day + 2 * (MOST_LINES + 3)]
    latest_first = range(MOST_LINES + 3, 5, -1)
    assert found.lines_T["value"].tolist() == [2, 50, *latest_first]
    assert found.lines_T["kind"].tolist()[:3] == [cart, view, view]


def test_looks_that_come_one_by_one_in_any_order_make_the_baskets_that_all_make_at_once() -> None:
    rng, rules = np.random.default_rng(0), LookRules.by_hand()
    looks = np.zeros(900, dtype=SINGLE)
    looks["kind"], looks["axis"] = rng.integers(0, 5, 900), rng.choice([ITEM, 1, 2], 900)
    looks["value"], looks["strength"] = rng.integers(1, 30, 900), rng.choice([LOOK_UNIT, LOOK_UNIT // 2], 900)
    looks["time_s"] = 86_400 * (19_000 + rng.integers(0, MAX_LOOK_BASKETS + 6, 900)) + rng.integers(0, 86_400, 900)
    at_once, one_by_one = LookBaskets.none().with_looks(looks, rules), LookBaskets.none()
    for place in range(len(looks)):
        one_by_one = one_by_one.with_looks(looks[place : place + 1], rules)
    assert one_by_one.pack() == at_once.pack()
    assert (len(at_once.time_s_B), at_once.lines_B.max()) == (MAX_LOOK_BASKETS, MOST_LINES)


def test_a_source_without_looks_has_the_features_and_bytes_that_it_always_had(shop: Shop, tmp_path: Path) -> None:
    events = shop.frames["events"]
    bare = Shop({**shop.frames, "events": events.filter(pc.equal(events["kind"], "purchase"))})
    folder = built(bare, tmp_path)
    users = pq.read_table(folder / "users.parquet")
    assert LOOKED not in users.column_names
    assert not any(b"LOK1" in value for value in users["affinity"].to_pylist())
    assert not any(b"LKB1" in value for value in users["history"].to_pylist())
    _, pairs, _ = pairs_at(folder, AS_OF)
    assert not set(LOOK_NAMES) & set(pairs.feature_names)
    assert pairs.histories.looks is None


def test_packed_looks_come_back_and_damage_is_an_error(features: Path) -> None:
    catalogue = Catalogue.load(features / "catalogue")
    users = pq.read_table(features / "users.parquet")
    packed = next(value for value in users["affinity"].to_pylist() if b"LOK1" in value)
    user = affinity.unpack_user(packed, catalogue.numbering)
    assert affinity.pack_user(user, catalogue.numbering.name) == packed
    assert [len(values) for values in user.looks.values] == [len(weights) for weights in user.looks.weights]
    for damaged in (packed[:-1], packed[: packed.index(b"LOK1") + 6]):
        with pytest.raises(FeatureStoreError, match="affinity"):
            affinity.unpack_user(damaged, catalogue.numbering)
    assert Looks.none().pack() == b""
