"""Facts about shoppers know nothing later than their moment, say what the tables say, and foretell what comes."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import TIME, open_tables
from recommender.features.facts import FACTS, facts_of_users, numbers_of_shop
from recommender.features.facts.rhythm import rhythm_at
from recommender.features.facts.shrinkage import Credibility, GammaPoisson
from recommender.features.facts.value import value_at
from recommender.features.source import Source, open_source
from recommender.storage.manifest import write_manifest


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one shopper who only looks, one who brings back a lot, and one who writes many reviews at once."""
    shop = Shop.generate(tmp_path_factory.mktemp("world") / "tables")
    items = shop.frames["items"]["item_id"].to_pylist()
    looks = [
        {"user_id": "looker", "kind": kind, "event_time": AS_OF - timedelta(days=2, hours=k), "item_id": items[0]}
        for k, kind in enumerate(("view", "view", "click", "cart"))
    ]
    reviews = [
        {
            "user_id": "user-00003",
            "kind": "review",
            "event_time": AS_OF - timedelta(days=9, hours=2 * k - 9),
            "rating": 5.0,
        }
        for k in range(9)
    ]
    lines: list[dict[str, Any]] = [
        {
            "user_id": "returner",
            "kind": "purchase",
            "event_time": AS_OF - timedelta(days=40 + k),
            "item_id": items[k],
            "amount": 10.0,
        }
        for k in range(12)
    ]
    # As ingestion marks purchases that came back (`datasets.returns`).
    for line in lines[:8]:
        line |= {"returned_at": line["event_time"] + timedelta(days=5), "returned_share": 1.0}
    none = shop.frames["events"].append_column("returned_at", pa.nulls(len(shop.frames["events"]), TIME))
    shop.frames["events"] = none.append_column("returned_share", pa.nulls(len(none), pa.float64()))
    events = [{"event_id": f"more-{k}", **row} for k, row in enumerate([*looks, *reviews, *lines])]
    users = [{"user_id": "looker", "region": "北京"}, {"user_id": "returner"}]
    return shop.adding("users", users).adding("events", events)


def opened(shop: Shop, folder: Path) -> Source:
    return open_source(shop.write(folder / "tables"), AS_OF, threads=1, spill=folder / "spill")


def facts_at(source: Source, moment: datetime) -> pa.Table:
    return facts_of_users(source, moment, numbers_of_shop(source, moment))


@pytest.fixture(scope="module")
def source(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Source:
    return opened(shop, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def facts(source: Source) -> pa.Table:
    return facts_at(source, AS_OF)


@pytest.fixture(scope="module")
def rows(facts: pa.Table) -> dict[str, dict[str, object]]:
    return {row["user_id"]: row for row in facts.to_pylist()}


def test_what_happens_at_the_moment_or_later_changes_no_bit_of_any_fact(
    shop: Shop, facts: pa.Table, tmp_path: Path
) -> None:
    users, items = (shop.frames[name].column(0).to_pylist() for name in ("users", "items"))
    later = [
        {
            "event_id": f"planted-{k}",
            "user_id": users[k % len(users)],
            "kind": ("purchase", "view", "review", "like", "cart")[k % 5],
            "event_time": AS_OF + timedelta(hours=k),
            "item_id": items[k % 7],
            "amount": 1e6,
            "discount": 10.0,
            "coupon_discount": 5.0,
            "quantity": 9.0,
            "rating": 1.0,
        }
        for k in range(300)
    ]
    campaign = shop.frames["campaigns"]["campaign_id"][0].as_py()
    taken = [{"campaign_id": campaign, "user_id": user, "participated_at": AS_OF} for user in users]
    planted = shop.adding("events", later).adding("participations", taken)
    for name, table in (("before", facts), ("after", facts_at(opened(planted, tmp_path), AS_OF))):
        pq.write_table(table, tmp_path / name)
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_days_bought_are_dates_of_the_shop_s_calendar(shop: Shop, tmp_path: Path) -> None:
    zone = "Australia/Adelaide"  # half an hour off the hour, and with summer time
    tables = shop.write(tmp_path / "tables")
    write_manifest(tables.folder, **{**tables.manifest, "time_zone": zone})
    moment = AS_OF - timedelta(hours=7, minutes=13)
    found = facts_at(open_source(open_tables(tables.folder), moment, threads=1, spill=tmp_path / "spill"), moment)
    dates: dict[str, set[date]] = {}
    for event in shop.frames["events"].to_pylist():
        known = event["event_time"] < moment and (event["returned_at"] is None or event["returned_at"] >= moment)
        if event["kind"] == "purchase" and known:
            dates.setdefault(event["user_id"], set()).add(event["event_time"].astimezone(ZoneInfo(zone)).date())
    counts = dict(zip(found["user_id"].to_pylist(), found["rhythm__visits"].to_pylist(), strict=True))
    assert {user: counts[user] for user in dates} == {user: len(on) for user, on in dates.items()}


def test_every_column_of_facts_is_documented(facts: pa.Table) -> None:
    assert {name for name in facts.column_names if "__" in name} <= {fact.name for fact in FACTS}
    assert all(fact.unit and fact.meaning and fact.source and fact.missing for fact in FACTS)


def test_a_shopper_without_purchases_has_a_portrait_of_what_they_looked_at(
    shop: Shop, rows: dict[str, dict[str, object]]
) -> None:
    row = rows["looker"]
    assert np.isnan([row["rhythm__visits"], row["churn__none_28d"]]).all()
    assert row["looks__events_90d"] == 4
    category = dict(zip(*(shop.frames["items"][name].to_pylist() for name in ("item_id", "category")), strict=True))
    first = shop.frames["items"]["item_id"][0].as_py()
    seen = [entry for entry in row["looked_at"] if entry["axis"] == "category"]  # type: ignore[attr-defined]
    assert [(entry["value"], entry["count"], entry["share"]) for entry in seen] == [(category[first], 4, 1.0)]
    assert row["attributes"] == [{"name": "region", "value": "北京"}]
    assert row["favourites"] == []


def test_returns_and_bursts_of_reviews_are_flagged_with_their_counts_and_usual_shoppers_are_not(
    rows: dict[str, dict[str, object]],
) -> None:
    assert (rows["returner"]["risk__returns"], rows["returner"]["risk__returns_of"]) == (8, 12)
    flagged = {name for name, row in rows.items() for fact, value in row.items() if fact.endswith("_flag") and value}
    assert flagged == {"returner", "user-00003"}
    assert rows["user-00003"]["risk__review_bursts"] == 9
    assert rows["user-00003"]["risk__review_bursts_chance"] < 1e-3  # type: ignore[operator]


def test_a_wholly_returned_purchase_is_no_visit(rows: dict[str, dict[str, object]]) -> None:
    assert rows["returner"]["rhythm__visits"] == 4
    assert rows["returner"]["value__a_visit"] > 0  # type: ignore[operator]


def test_the_dates_of_next_visits_and_the_risk_of_none_come_true_as_often_as_they_say(source: Source) -> None:
    """200 users of one world, forecast at an earlier moment, and what they did until `AS_OF`."""
    moment = AS_OF - timedelta(days=30)
    rhythm = rhythm_at(source, moment)
    lines = source.lines
    later = lines.filter(lines.event_time >= moment, lines.event_time < AS_OF).to_pyarrow()
    first: dict[str, float] = {}
    for user, at in zip(later["user_id"].to_pylist(), later["event_time"].to_pylist(), strict=True):
        age = (at - moment) / timedelta(days=1)
        first[user] = min(first.get(user, np.inf), age)
    next_U = np.array([first.get(user, np.inf) for user in rhythm.user_ids.to_pylist()])
    for days in (7, 14, 28):
        expected, observed = rhythm.none_within(days), next_U > days
        error = np.sqrt((expected * (1 - expected)).sum()) / len(expected)
        assert abs(expected.mean() - observed.mean()) < 4 * error + 0.02
    # Between a tenth and nine tenths lie 80 %, but for whole days, of which those at the edges count whole.
    inside = (next_U <= rhythm.due_days(0.9)) & (next_U > rhythm.due_days(0.1) - 1)
    assert 0.7 < inside.mean() < 0.95
    order = np.argsort(rhythm.none_within(14))
    assert (next_U[order[: len(order) // 4]] > 14).mean() < (next_U[order[-len(order) // 4 :]] > 14).mean()


def test_expected_spend_is_what_users_spend_and_its_range_holds_most_of_them(source: Source) -> None:
    moment = AS_OF - timedelta(days=60)
    rhythm = rhythm_at(source, moment)
    value = value_at(source, moment, rhythm, 60)
    lines = source.lines
    later = lines.filter(lines.event_time >= moment, lines.event_time < AS_OF).group_by("user_id")
    spent = {row["user_id"]: row["cents"] / 100 for row in later.agg(cents=lines.cents.sum()).to_pyarrow().to_pylist()}
    spent_U = np.array([spent.get(user, 0.0) for user in rhythm.user_ids.to_pylist()])
    assert 0.8 < spent_U.sum() / value.expected_U.sum() < 1.25
    assert 0.65 < ((spent_U >= value.low_U) & (spent_U <= value.high_U)).mean() < 0.95
    short = value_at(source, AS_OF - timedelta(days=150), rhythm_at(source, AS_OF - timedelta(days=150)), 60)
    assert np.isnan(short.expected_U).all()


def test_a_user_with_few_data_is_drawn_to_everyone_and_one_with_many_keeps_the_own_rate() -> None:
    rng = np.random.default_rng(5)
    rate_U = rng.gamma(2.0, 0.05, size=4_000)
    days_U = rng.integers(30, 300, size=4_000).astype(np.float64)
    model = GammaPoisson.fit(rng.poisson(rate_U * days_U).astype(np.float64), days_U)
    assert model.shape == pytest.approx(2.0, rel=0.15)
    assert model.shape / model.rate == pytest.approx(0.1, rel=0.05)
    few, many = model.mean(np.array([5.0, 500.0]), np.array([10.0, 1_000.0]))
    assert 0.1 < few < 0.3
    assert many == pytest.approx(0.5, rel=0.05)
    assert model.tail(np.array([0.0, 1.0]), np.array([30.0, 30.0]))[0] == 1.0
    share = Credibility.fit(np.array([0.2, 0.4, np.nan]), np.array([100.0, 100.0, 0.0]))
    assert share.drawn(np.array([np.nan]), np.array([0.0]))[0] == pytest.approx(0.3)


def test_a_source_without_amounts_quantities_or_coupons_lacks_the_facts_about_them(shop: Shop, tmp_path: Path) -> None:
    bare = shop.without("events", "amount", "discount", "coupon_discount", "quantity", "rating")
    table = facts_at(opened(bare, tmp_path), AS_OF)
    assert not any(name.startswith("prices__") for name in table.column_names)
    assert "community__mean_rating" not in table.column_names
    assert "rhythm__next_days" in table.column_names
