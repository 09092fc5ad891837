"""The fold of later events into a row equals the row that a build at the later moment makes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import Tables
from recommender.datasets.time_units import DAY_US
from recommender.decisions.shipping import sealed
from recommender.event_tables.append import add_logged_events
from recommender.events.contract import Event, Stamped
from recommender.events.fold import Fold
from recommender.events.tail import Readings, line_of, unread
from recommender.features.build import build
from recommender.features.purchases import WINDOWS
from recommender.features.shoppers import shoppers_of
from recommender.matching.affinity import MEASURES, UserAffinity, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.packed_history import pack_history, unpack_history
from recommender.matching.packed_user import PackedUser, pack, unpack

COUPON_90 = MEASURES.index("coupon_90")
LATER = AS_OF + timedelta(days=9, hours=5)
STEM = "20240701-00ff00ff00ff-3"
WAIT = ("trips_", "num_stores", "campaign", "coupons_", "targeted_", "redeemed_", "c_", "open_")
"""Beginnings of the features of behaviour that the fold leaves for the next materialisation. Those of interest that it
does not leave are `COUNTED`."""
COUNTED = re.compile(r"(view|click|cart|search|favourite)(s(_\d+d)?|_recency_days)")


@dataclass(frozen=True)
class Two:
    """A shop's rows at two moments, and the events between."""

    rows: dict[str, Shopper]
    later: dict[str, Shopper]
    events: dict[str, list[Stamped]]
    catalogue: Catalogue

    @property
    def users(self) -> list[str]:
        """Those that are busy, watching and going on come first."""
        return list(self.rows)

    def folded(self, user: str, *, readings: Readings | None = None, at: datetime = LATER) -> Shopper:
        row = self.rows[user]
        tail = b"".join(line_of(one, STEM) for one in self.events.get(user, []))
        packed = PackedUser.check(pack(row))
        packed = PackedUser(packed.content, packed.layout, packed.feature_time_us, tail)
        fold = Fold(self.catalogue, readings or Readings({}))
        content = fold.folded(user, packed, row.portrait_names, microseconds(at))
        return unpack(user, content, {packed.layout: row.portrait_names})

    def affinity(self, shopper: Shopper) -> UserAffinity:
        return unpack_user(shopper.affinity, self.catalogue.numbering)

    @property
    def active(self) -> list[str]:
        bought = [user for user in self.rows if any(one.event.kind == "purchase" for one in self.events.get(user, []))]
        assert len(bought) > 30
        return bought


def microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def stamped(row: dict[str, Any]) -> Stamped:
    fields = {name: value for name, value in row.items() if name in Event.model_fields and value is not None}
    time = fields.pop("event_time")
    return Stamped(Event(**fields), microseconds(time))


def busy(user: str, items: list[str]) -> Iterator[dict[str, Any]]:
    """Two baskets a day for 60 days before the row, with a coupon in every third, and one a week before them."""
    days = [*(0.5 * turn + 0.2 for turn in range(120)), *(61 + 7 * turn for turn in range(16))]
    for turn, day in enumerate(days):
        own = {"user_id": user, "kind": "purchase", "event_time": AS_OF - timedelta(days=day), "basket_id": f"b{turn}"}
        off = {"coupon_discount": 0.35} if turn % 3 == 0 else {"discount": 0.2} if turn % 3 == 1 else {}
        for line in range(1 + turn % 2):
            item = items[(turn + line) % 20]
            yield {**own, **off, "event_id": f"busy {turn} {line}", "item_id": item, "amount": 1.25 + turn / 100}


def watching(user: str, items: list[str]) -> Iterator[dict[str, Any]]:
    """More views in 90 days than a row holds one by one, and some after the row."""
    for turn in range(-9, 700):
        moment = AS_OF - timedelta(hours=3 * turn + 1, seconds=turn)
        yield {"event_id": f"w{turn}", "user_id": user, "kind": "view", "event_time": moment, "item_id": items[3]}


def going_on(user: str, items: list[str]) -> Iterator[dict[str, Any]]:
    """A basket that begins before the row and ends after it."""
    for line, hours in enumerate((-1, -0.5, 2, 3)):
        own = {"user_id": user, "kind": "purchase", "event_time": AS_OF + timedelta(hours=hours), "basket_id": "on"}
        item, amount = items[(7, 3, 5, 4)[line]], (1.0, 2.5, 0.99, 4.0)[line]
        yield {**own, "event_id": f"on {line}", "item_id": item, "amount": amount, "coupon_discount": line / 10}


def items_of(shop: Shop, user: str) -> set[str]:
    events = shop.frames["events"]
    return set(events.filter(pc.equal(events["user_id"], user))["item_id"].drop_null().to_pylist())


def returned(user: str, items: list[str]) -> Iterator[dict[str, Any]]:
    """Baskets after the row: of one item all lines come back, of one a part, and one comes back and is bought again."""
    lines = [(0, "purchase", 0, 2), (1, "purchase", 1, 3), (2, "purchase", 0, 1), (3, "purchase", 2, 1)]
    lines += [(20, "return", 1, 1), (30, "return", 0, 3), (40, "return", 2, 1), (41, "purchase", 2, 2)]
    for hours, kind, item, quantity in lines:
        own = {
            "user_id": user,
            "kind": kind,
            "event_time": AS_OF + timedelta(hours=1 + hours),
            "basket_id": f"r{hours}",
        }
        yield {**own, "event_id": f"r {hours}", "item_id": items[item], "quantity": quantity, "amount": 1.99 * quantity}


def with_returns_settled(shop: Shop, folder: Path) -> Tables:
    """The tables, with the returns among events after the row in the log of events, as gateways ship it."""
    log = shop.frames["events"]
    is_return = pc.equal(log["kind"], "return")
    tables = replace(shop, frames={**shop.frames, "events": log.filter(pc.invert(is_return))}).write(folder / "tables")
    lines = [stamped(row) for row in log.filter(is_return).to_pylist()]
    told = [
        {**one.event.model_dump(exclude_none=True, exclude={"event_time"}), "time_us": one.time_us, "received_us": 1}
        for one in lines
    ]
    (folder / "log").mkdir()
    content = b"".join(orjson.dumps(line) + b"\n" for line in told)
    (folder / "log" / f"{STEM}.jsonl").write_bytes(sealed(content))
    return add_logged_events(tables, folder / "log")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("two")
    shop = Shop.generate(folder / "generated")
    users, items = (shop.frames[table][f"{table[:-1]}_id"].to_pylist() for table in ("users", "items"))
    new_items = sorted(set(items) - items_of(shop, users[3]))
    shop = shop.adding(
        "events",
        [
            *busy(users[0], items),
            *watching(users[1], items),
            *going_on(users[2], items),
            *returned(users[3], new_items),
        ],
    )
    kept_log = shop.frames["events"]
    tables = with_returns_settled(shop, folder)
    rows, catalogue = {}, None
    for name, moment in (("earlier", AS_OF), ("later", LATER)):
        features = build(tables, folder / name, as_of=moment, threads=1)
        users = pq.read_table(features / "users.parquet")
        rows[name] = {one.user_id: one for one in shoppers_of(users.filter(pc.field("event_timestamp") == moment))}
        catalogue = catalogue or Catalogue.load(features / "catalogue")
    log = kept_log
    log = log.filter((pc.field("event_time") >= AS_OF) & (pc.field("event_time") < LATER))
    events: dict[str, list[Stamped]] = {}
    for row in log.to_pylist():
        if row["kind"] in ("purchase", "return", "view", "click", "cart", "search", "review", "share"):
            events.setdefault(row["user_id"], []).append(stamped(row))
    assert catalogue is not None
    return Two(rows["earlier"], rows["later"], events, catalogue)


def test_the_history_has_the_bits_of_one_that_is_built_later(two: Two) -> None:
    for user in two.active:
        folded = unpack_history(two.folded(user).history, two.catalogue.numbering)
        built = unpack_history(two.later[user].history, two.catalogue.numbering)
        for ours, theirs in zip(folded, built, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_what_was_bought_on_every_axis_is_counted_as_by_a_build_later(two: Two) -> None:
    moved = 0
    for user in two.rows:
        folded, built = two.affinity(two.folded(user)), two.affinity(two.later[user])
        for axis in range(len(folded.values)):
            np.testing.assert_array_equal(folded.values[axis], built.values[axis])
            np.testing.assert_array_equal(folded.counts[axis], built.counts[axis])
            np.testing.assert_array_equal(folded.cents[axis], built.cents[axis])
        np.testing.assert_allclose(folded.months, built.months, rtol=2e-7)
        before = two.affinity(two.rows[user]).counts[0][COUPON_90]
        moved += before.sum() > built.counts[0][COUPON_90].sum()
    assert moved > 0, "lines with a coupon left the 90 days"


BASKETS = (
    *("recency_days", "tenure_days", "baskets_per_month", "mean_gap_days", "active_weeks_share"),
    *(f"{name}_{days}d" for name in ("baskets", "lines") for days in WINDOWS),
    *("trend_30_of_90", "trend_90_of_180"),
)
SPENT = ("spend_per_month", "average_basket", "largest_basket", "lines_per_basket", "price_level")


def test_recency_counts_and_spend_in_every_window_are_those_of_a_build_later(two: Two) -> None:
    names = [f"behaviour__{name}" for name in BASKETS] + [f"consumption__{name}" for name in SPENT]
    names += [f"consumption__spend_{days}d" for days in WINDOWS]
    moved = dict.fromkeys(names, 0)
    for user in two.active:
        row, folded, built = two.rows[user], two.folded(user), two.later[user]
        for name in names:
            place = built.portrait_names.index(name)
            ours, theirs = folded.portrait_P[place], built.portrait_P[place]
            np.testing.assert_allclose(ours, theirs, rtol=2e-7, err_msg=f"{user} {name}")
            if name.endswith("d") and "spend" not in name:
                assert ours == theirs, f"{user} {name}"
            moved[name] += bool(row.portrait_P[row.portrait_names.index(name)] != theirs)
    assert min(moved.values()) > 5, moved


def test_totals_and_recency_of_views_and_other_kinds_are_those_of_a_build_later(two: Two) -> None:
    names = [name for name in two.later[two.active[0]].portrait_names if name.split("__")[0] in ("interest", "social")]
    kinds = ("views", "clicks", "carts", "searches", "searchs", "shares", "reviews")
    totals = [name for name in names if name.split("__")[1] in kinds]
    recency = [name for name in names if name.endswith("_recency_days") and name.split("__")[1] != "recency_days"]
    assert len(totals) >= 5
    for user in two.active:
        folded, built = two.folded(user), two.later[user]
        for name in totals + recency:
            place = built.portrait_names.index(name)
            np.testing.assert_allclose(folded.portrait_P[place], built.portrait_P[place], rtol=3e-7, err_msg=name)
        for name in totals:
            place = built.portrait_names.index(name)
            assert folded.portrait_P[place] == built.portrait_P[place]


def test_a_row_keeps_its_bytes_at_its_own_moment(two: Two) -> None:
    for user in two.active[:5]:
        assert pack(two.folded(user, at=AS_OF - timedelta(days=1))) == pack(two.rows[user])
        assert pack(Two(two.rows, two.later, {}, two.catalogue).folded(user, at=AS_OF)) == pack(two.rows[user])


def test_the_portrait_of_every_shopper_is_that_of_a_build_later_also_where_nothing_happened(two: Two) -> None:
    names = [name for name in two.later[two.active[0]].portrait_names if is_folded(name)]
    assert len(names) > 70
    quiet = set(two.rows) - set(two.events)
    changed = dict.fromkeys(names, 0)
    for user in two.rows:
        folded, built = two.folded(user), two.later[user]
        for name in names:
            place = built.portrait_names.index(name)
            ours, theirs = folded.portrait_P[place], built.portrait_P[place]
            if (user, name) == (two.users[1], "interest__views_90d"):
                assert abs(ours - theirs) < 8, "before the last 256 views a row holds days, of eight views each"
                assert theirs > 600
            else:
                np.testing.assert_allclose(ours, theirs, rtol=5e-7, err_msg=f"{user} {name}")
            changed[name] += two.rows[user].portrait_P[place] != theirs
    assert len(quiet) > 5
    for name in ("interest__views_7d", "interest__carts_30d", "social__reviews_90d", "social__mean_rating"):
        assert changed[name] > 3, name
    for name in ("coupon_lines_90d", "coupon_discount_30d", "discounted_lines_7d", "coupon_recency_days"):
        assert changed[f"consumption__{name}"] > 3, name


def is_folded(name: str) -> bool:
    kind, _, short = name.partition("__")
    if kind == "interest":
        return COUNTED.fullmatch(short) is not None
    return not (kind == "behaviour" and short.startswith(WAIT))


def test_what_came_back_after_the_row_is_no_purchase_any_more(two: Two) -> None:
    user = two.users[3]
    first, second, third = (
        two.catalogue.item_rows[event.item_id or ""]
        for event, _ in sorted(two.events[user], key=lambda one: one.time_us)
        if event.event_id in ("r 0", "r 1", "r 3")
    )
    folded = unpack_history(two.folded(user).history, two.catalogue.numbering)
    before = unpack_history(two.rows[user].history, two.catalogue.numbering)
    kept = folded.items_T[len(before.items_T) :].tolist()
    assert (kept.count(first), kept.count(second), kept.count(third)) == (0, 1, 1)
    assert folded.spend_B.tolist().count(np.float32(3.98)) >= 2


def test_a_row_without_rings_is_folded_as_far_as_it_goes(two: Two) -> None:
    def without(row: Shopper) -> Shopper:
        history = unpack_history(row.history, two.catalogue.numbering)
        return replace(row, history=pack_history(*history, two.catalogue.taxonomy_version))

    old = replace(two, rows={user: without(row) for user, row in two.rows.items()})
    for user in two.active[3:]:
        folded, built = old.folded(user), two.later[user]
        for name in (*(f"behaviour__{one}" for one in BASKETS), *(f"consumption__{one}" for one in SPENT)):
            place = built.portrait_names.index(name)
            np.testing.assert_allclose(folded.portrait_P[place], built.portrait_P[place], rtol=5e-7, err_msg=name)
        waits = built.portrait_names.index("interest__views_7d")
        assert folded.portrait_P[waits] == two.rows[user].portrait_P[waits]


def test_a_late_event_counts_until_the_segment_that_holds_it_was_read(two: Two) -> None:
    user = two.active[3]
    row = two.rows[user]
    item = two.catalogue.item_ids[1]
    event = Event(event_id="late", user_id=user, kind="purchase", item_id=item, amount=2.0)
    late = Stamped(event, row.feature_time_us - 20 * DAY_US)
    one = Two(two.rows, two.later, {user: [late]}, two.catalogue)
    baskets = len(unpack_history(row.history, two.catalogue.numbering).times_us_B)

    def num_baskets(readings: Readings) -> int:
        folded = unpack_history(one.folded(user, readings=readings).history, two.catalogue.numbering)
        assert (np.diff(folded.times_us_B) >= 0).all()
        return len(folded.times_us_B)

    writer = STEM.split("-")[1]
    assert num_baskets(Readings({row.feature_time_us: {}})) == baskets + 1
    assert num_baskets(Readings({row.feature_time_us: {writer: 2}})) == baskets + 1
    assert num_baskets(Readings({row.feature_time_us: {writer: 3}})) == baskets
    assert num_baskets(Readings({})) == baskets
    tail = line_of(late, STEM)
    assert unread(tail, row.feature_time_us, Readings({row.feature_time_us: {writer: 2}})) == tail
    assert unread(tail, row.feature_time_us, Readings({row.feature_time_us: {writer: 3}})) == b""


def test_of_events_that_a_row_has_read_the_newest_about_each_campaign_stays_in_the_tail() -> None:
    def line(kind: str, campaign: str | None, at_us: int) -> bytes:
        event = Event(event_id=f"{kind} {at_us}", user_id="1", kind=kind, campaign_id=campaign, item_id="tin")
        return line_of(Stamped(event, at_us), STEM)

    first, shown, again = line("hide", "a", 1), line("like", "a", 2), line("hide", "a", 3)
    other, late, viewed = line("dislike", "b", 2), line("like", "b", 1), line("view", None, 2)
    tail = first + shown + other + viewed + again + late
    assert unread(tail, 10, Readings({})) == other + again
    assert unread(tail, 3, Readings({})) == other + again
    assert unread(tail, 2, Readings({})) == shown + other + viewed + again


def test_what_takes_up_an_open_campaign_stays_for_a_user_who_may_have_no_row() -> None:
    taken, ended = (
        line_of(Stamped(Event(event_id=one, user_id="1", kind="participation", campaign_id=one), 1), STEM)
        for one in ("open", "ended")
    )
    assert unread(taken + ended, 10, Readings({}), {"open"}) == taken
    assert unread(taken + ended, 10, Readings({})) == b""


def test_readings_come_back_from_their_file_and_hold_two_runs_at_least(tmp_path: Path) -> None:
    first = Readings({}).with_reading(1, {"a": 3}).with_reading(2, {"a": 4, "b": 0})
    first.save(tmp_path / "readings.json")
    assert Readings.load(tmp_path / "readings.json") == first
    assert Readings.load(tmp_path / "none.json") == Readings({})
    assert set(first.with_reading(3, {}).with_reading(4, {}).by_moment) == {4, 3, 2}
    assert set(first.with_reading(2, None).by_moment) == {1}
