"""Looks that are folded into a row equal, to the last bit, those of a row that is built at the later moment."""

from collections.abc import Mapping
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

from recommender.errors import FeatureStoreError
from recommender.events.contract import Event, Stamped
from recommender.events.fold import Fold
from recommender.events.look_fold import waits
from recommender.events.tail import Readings, Recent, line_of
from recommender.features.build import build
from recommender.features.shoppers import shoppers_of
from recommender.matching.affinity import unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.look_baskets import MAX_LOOK_BASKETS, LookBaskets
from recommender.matching.looks import LOOKED, Looks
from recommender.matching.packed_history import unpack_history, unpack_looks
from recommender.matching.packed_user import PackedUser, pack, unpack
from recommender.matching.single_looks import MOST_SINGLE
from recommender.monitoring.event_consistency import differences
from recommender.settings import LookSettings

LATER, GATE = AS_OF + timedelta(days=9, hours=5, seconds=7), AS_OF - timedelta(days=20)
STEM = "20240701-00ff00ff00ff-3"
HEAVY = "heavy"


class Two:
    """A shop's rows at two moments, and the events between."""

    def __init__(self, folder: Path) -> None:
        shop = looking(Shop.generate(folder / "generated"))
        tables = shop.write(folder / "tables")
        first = build(tables, folder / "first", as_of=AS_OF, facts=False, looks=EARLIER, learn_looks_before=GATE)
        self.catalogue = Catalogue.load(first / "catalogue")
        rules = self.catalogue.look_rules
        second = build(tables, folder / "second", as_of=LATER, facts=False, looks=LATER_ON, look_rules=rules)
        self.rows, self.later = self._rows(first, AS_OF), self._rows(second, LATER)
        assert Catalogue.load(second / "catalogue").look_rules == rules
        log = shop.frames["events"]
        log = log.filter((pc.field("event_time") >= AS_OF) & (pc.field("event_time") < LATER))
        self.events: dict[str, list[Stamped]] = {}
        for row in log.to_pylist():
            fields = {name: value for name, value in row.items() if name in Event.model_fields and value is not None}
            moment = microseconds(fields.pop("event_time"))
            stamped = Stamped(Event(**fields), moment)
            self.events.setdefault(row["user_id"], []).append(stamped)

    @staticmethod
    def _rows(folder: Path, moment: Any) -> dict[str, Shopper]:
        users = pq.read_table(folder / "users.parquet").filter(pc.field("event_timestamp") == moment)
        return {one.user_id: one for one in shoppers_of(users)}

    def folded(self, user: str) -> Shopper:
        row = self.rows[user]
        tail = b"".join(line_of(one, STEM) for one in self.events.get(user, []))
        packed = replace(PackedUser.check(pack(row)), tail=tail)
        content = Fold(self.catalogue, Readings({})).folded(user, packed, row.portrait_names, microseconds(LATER))
        return unpack(user, content, {packed.layout: row.portrait_names})

    def looks(self, shopper: Shopper) -> Looks:
        return unpack_user(shopper.affinity, self.catalogue.numbering).looks

    def baskets(self, shopper: Shopper) -> LookBaskets:
        return unpack_looks(shopper.history, unpack_history(shopper.history, self.catalogue.numbering))

    def waiting(self, user: str) -> bool:
        return any(waits(recent(one), self.catalogue) for one in self.events.get(user, []))


EARLIER = LookSettings(encoder=False, dwell_s=45.0, weight={"search": 2.5})
LATER_ON = LookSettings(encoder=False)
"""The published rules count, not these."""


def microseconds(moment: Any) -> int:
    return round(moment.timestamp() * 1e6)


def recent(stamped: Stamped) -> Recent:
    event = stamped.event
    return Recent(event.kind, stamped.time_us, STEM, query=event.query, rating=event.rating)


def looking(shop: Shop) -> Shop:
    """The shop with seconds of views, likes, and one shopper who looks more often than a row holds one by one."""
    events = shop.frames["events"]
    rng = np.random.default_rng(5)
    seconds = pa.array(np.round(rng.lognormal(3, 1.2, size=len(events)), 1), mask=rng.random(len(events)) < 0.5)
    is_view = pc.is_in(events["kind"], pa.array(["view", "click"]))
    events = events.append_column("dwell_s", pc.if_else(is_view, seconds, pa.scalar(None, pa.float64())))
    shop = Shop({**shop.frames, "events": events})
    users, items = (shop.frames[name][f"{name[:-1]}_id"].to_pylist() for name in ("users", "items"))
    likes = [
        {
            "event_id": f"like-{k}",
            "user_id": users[int(rng.integers(len(users)))],
            "kind": ("like", "favourite")[k % 2],
            "item_id": items[int(rng.integers(len(items)))],
            "event_time": AS_OF + timedelta(days=float(rng.uniform(-60, 9))),
        }
        for k in range(400)
    ]
    views = [
        {
            "event_id": f"heavy-{k}",
            "user_id": HEAVY,
            "kind": "view",
            "item_id": items[k % len(items)],
            "event_time": AS_OF + timedelta(hours=-k if k else 1),
        }
        for k in range(MOST_SINGLE + 2)
    ]
    return shop.adding("users", [{"user_id": HEAVY}]).adding("events", [*likes, *views])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("two"))


def by_value(looks: Looks) -> list[Mapping[int, int]]:
    pairs = zip(looks.values, looks.weights, strict=True)
    return [dict(zip(values.tolist(), weights.tolist(), strict=True)) for values, weights in pairs]


def test_folded_looks_have_the_bits_of_those_that_are_built_later(two: Two) -> None:
    kinds, compared = set[str](), 0
    for user in two.events:
        if two.waiting(user) or user == HEAVY:
            continue
        folded, built = two.folded(user), two.later[user]
        assert by_value(two.looks(folded)) == by_value(two.looks(built)), user
        place = built.portrait_names.index(LOOKED)
        assert folded.portrait_P[place] == built.portrait_P[place]
        compared += two.rows[user].portrait_P[place] != built.portrait_P[place]
        kinds |= {one.event.kind for one in two.events[user]}
    assert compared > 50
    assert kinds >= {"view", "click", "cart", "search", "review", "like", "favourite"}
    dwelt = {one.event.dwell_s for events in two.events.values() for one in events if one.event.kind == "view"}
    assert len(dwelt) > 20


def test_folded_baskets_of_looks_have_the_bytes_of_those_that_are_built_later(two: Two) -> None:
    changed = 0
    for user in two.events:
        if not two.waiting(user):
            before, folded, built = (two.baskets(of) for of in (two.rows[user], two.folded(user), two.later[user]))
            assert folded.pack() == built.pack(), user
            changed += folded.pack() != before.pack()
    assert changed > 50
    assert len(two.baskets(two.rows[HEAVY]).time_s_B) > 20
    assert max(len(two.baskets(row).time_s_B) for row in two.later.values()) <= MAX_LOOK_BASKETS


def test_events_check_finds_no_difference_and_one_look_that_is_left_out(two: Two) -> None:
    user = next(user for user, events in two.events.items() if any(one.event.kind == "cart" for one in events))
    new = [recent(one) for one in two.events[user]]
    at_us = microseconds(LATER)

    def fields(*, has_looks: bool = True) -> set[str]:
        rows = two.rows[user], two.folded(user), two.later[user]
        found = differences(*rows, two.catalogue, at_us, new=new, minor_units=100, has_looks=has_looks)
        return {one.field for one in found if "look" in one.field}

    assert fields() == set()
    carts = [one for one in two.events[user] if one.event.kind == "cart"]
    two.events[user].remove(carts[0])
    try:
        assert {"product looked at", "category looked at", "baskets of looks lines_T", LOOKED} <= fields()
        # While the last run knew no looks, serving counts none.
        assert fields(has_looks=False) == set()
    finally:
        two.events[user].append(carts[0])


def test_a_shopper_with_too_many_looks_keeps_the_sums_and_gets_new_looks_added(two: Two) -> None:
    before, after = (by_value(two.looks(one)) for one in (two.rows[HEAVY], two.folded(HEAVY)))
    assert two.looks(two.rows[HEAVY]).single is None
    item = two.catalogue.item_rows[two.events[HEAVY][0].event.item_id or ""]
    changed = {value for value, weight in after[0].items() if weight != before[0].get(value)}
    assert changed == {item}
    assert after[0][item] > before[0][item]


def test_only_rows_for_serving_hold_single_looks_and_their_damage_is_an_error(two: Two) -> None:
    user = next(user for user, row in two.rows.items() if b"LKS1" in row.affinity)
    packed = two.rows[user].affinity
    assert two.looks(two.rows[user]).pack() == packed[packed.index(b"LOK1") :]
    for damaged in (packed[:-1], packed[: packed.index(b"LKS1") + 6]):
        with pytest.raises(FeatureStoreError, match="affinity"):
            unpack_user(damaged, two.catalogue.numbering)


def test_damaged_baskets_of_looks_are_an_error(two: Two) -> None:
    packed = next(row.history for row in two.rows.values() if b"LKB1" in row.history)
    start = packed.index(b"LKB1")
    assert LookBaskets.unpack(packed, start).pack() == packed[start:]
    for damaged in (packed[:-1], packed[: start + 6], packed[: start + 4] + b"\xff" + packed[start + 5 :]):
        with pytest.raises(FeatureStoreError, match="history"):
            unpack_history(damaged, two.catalogue.numbering)


def test_a_search_that_only_the_encoder_would_match_waits(two: Two) -> None:
    rules = two.catalogue.look_rules
    assert rules is not None
    with_encoder = replace(two.catalogue, look_rules=replace(rules, encoder=True))
    unclear, clear = (Recent("search", 0, STEM, query=query) for query in ("espresso", "organic tea"))
    assert waits(unclear, with_encoder)
    assert not waits(clear, with_encoder)
    assert not waits(unclear, two.catalogue)
    assert waits(Recent("review", 0, STEM, item_id="any"), two.catalogue)
