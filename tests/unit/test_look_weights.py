"""What looks count is learnt from what shoppers bought next, and only from before the gate period."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recommender.datasets.tables import TIME
from recommender.datasets.write import write_tables
from recommender.errors import SettingsError
from recommender.features.look_weights import look_weights
from recommender.features.source import Source, open_source
from recommender.matching.look_rules import HALF_LIFE_DAYS, WEIGHTS, LookRules
from recommender.settings import LookSettings, Settings

START, NUM_USERS, NUM_CATEGORIES = datetime(2024, 1, 1, tzinfo=UTC), 400, 8
BOUNDARY = START + timedelta(days=100)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Purchases follow the category of a cart of up to ten days before. Views are at random categories."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, object]] = []

    def happened(user: int, kind: str, category: int, day: float) -> None:
        rows.append(
            {
                "event_id": f"event-{len(rows)}",
                "user_id": f"user-{user}",
                "kind": kind,
                "item_id": f"item-{category}",
                "event_time": START + timedelta(days=float(day)),
                "amount": 1.0,
            }
        )

    for user in range(NUM_USERS):
        for _ in range(3):
            bought, day = int(rng.integers(NUM_CATEGORIES)), rng.uniform(30, 98)
            happened(user, "purchase", bought, day)
            wanted = bought if rng.random() < 0.8 else int(rng.integers(NUM_CATEGORIES))
            happened(user, "cart", wanted, day - rng.uniform(1.5, 10))
            for _ in range(4):
                happened(user, "view", int(rng.integers(NUM_CATEGORIES)), day - rng.uniform(1.5, 30))
    # After the boundary it is the other way round: nobody buys what lies in the cart.
    for user in range(NUM_USERS):
        bought = int(rng.integers(NUM_CATEGORIES))
        happened(user, "purchase", bought, 110)
        happened(user, "cart", (bought + 1) % NUM_CATEGORIES, 105)
    texts = [(name, pa.string()) for name in ("event_id", "user_id", "kind", "item_id")]
    schema = pa.schema([*texts, ("event_time", TIME), ("amount", pa.float64())])
    names = [f"user-{user}" for user in range(NUM_USERS)]
    items = [f"item-{k}" for k in range(NUM_CATEGORIES)]
    campaign = {
        "campaign_id": ["one"],
        "kind": ["coupon"],
        "starts_at": [BOUNDARY],
        "ends_at": [BOUNDARY + timedelta(9)],
    }
    times = pa.array([BOUNDARY] * NUM_USERS, TIME)
    frames = {
        "users": pa.table({"user_id": names}),
        "items": pa.table({"item_id": items, "category": [f"category-{k}" for k in range(NUM_CATEGORIES)]}),
        "events": pa.Table.from_pylist(rows, schema=schema),
        "campaigns": pa.table(
            {name: pa.array(values, TIME) if name.endswith("_at") else values for name, values in campaign.items()}
        ),
        "campaign_items": pa.table({"campaign_id": ["one"] * NUM_CATEGORIES, "item_id": items}),
        "participations": pa.table(
            {"campaign_id": ["one"], "user_id": ["user-0"], "participated_at": pa.array([BOUNDARY], TIME)}
        ),
        "targets": pa.table({"campaign_id": ["one"] * NUM_USERS, "user_id": names, "targeted_at": times}),
    }
    folder: Path = tmp_path_factory.mktemp("shop")
    tables = write_tables(frames, folder / "tables", source="test", time_zone="UTC", decisions=[])
    return open_source(tables, START + timedelta(days=120), threads=1, spill=folder / "spill")


def test_carts_that_purchases_follow_count_and_views_at_random_do_not(source: Source) -> None:
    learnt = look_weights(source, LookSettings(), BOUNDARY)
    assert learnt.learnt == ("view", "cart")
    rules = learnt.rules
    assert rules.weight["cart"] > 20 * rules.weight["view"]
    assert rules.half_life_days["cart"] <= 30
    # What the log does not have keeps the value by hand.
    assert (rules.weight["like"], rules.half_life_days["like"]) == (WEIGHTS["like"], HALF_LIFE_DAYS["like"])


def test_what_happens_after_the_boundary_teaches_nothing(source: Source) -> None:
    before = look_weights(source, LookSettings(), BOUNDARY).rules
    after = look_weights(source, LookSettings(), BOUNDARY + timedelta(days=20)).rules
    assert values(before) == values(look_weights(source, LookSettings(), BOUNDARY + timedelta(days=5)).rules)
    assert after.weight["cart"] < before.weight["cart"]


def values(rules: LookRules) -> tuple[Mapping[str, float], Mapping[str, float]]:
    return rules.weight, rules.half_life_days


def test_a_value_that_is_set_is_kept_and_without_learning_those_by_hand_stay(source: Source) -> None:
    chosen = LookSettings(weight={"cart": 7.0}, half_life_days={"view": 2.0})
    found = look_weights(source, chosen, BOUNDARY).rules
    assert (found.weight["cart"], found.half_life_days["view"]) == (7.0, 2.0)
    assert values(look_weights(source, LookSettings(learn=False), BOUNDARY).rules) == (WEIGHTS, HALF_LIFE_DAYS)
    assert values(look_weights(source, LookSettings(), None).rules) == (WEIGHTS, HALF_LIFE_DAYS)
    early = look_weights(source, LookSettings(), START + timedelta(days=31)).rules
    assert values(early) == (WEIGHTS, HALF_LIFE_DAYS)


def test_an_unknown_kind_and_a_half_life_of_nothing_are_refused() -> None:
    for wrong in ({"weight": {"glance": 1.0}}, {"half_life_days": {"view": 0.0}}):
        with pytest.raises(SettingsError, match="looks"):
            Settings().updated(looks=wrong)
