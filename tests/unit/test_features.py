"""Features know nothing later than their decision, and say what the tables say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.errors import ContractError, PeriodError
from recommender.features import build
from recommender.matching.catalogue import Catalogue
from recommender.storage.manifest import read_manifest


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.generate(tmp_path_factory.mktemp("world") / "tables")


@pytest.fixture(scope="module")
def features(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    return build(shop.write(folder / "tables"), folder / "features", as_of=AS_OF)


def purchases_of(shop: Shop, user_id: str, before: datetime) -> list[dict[str, object]]:
    rows = shop.frames["events"].filter(pc.equal(shop.frames["events"]["user_id"], user_id)).to_pylist()
    return [row for row in rows if row["kind"] == "purchase" and row["event_time"] < before]


def row_at(table: pa.Table, user_id: str, moment: datetime) -> dict[str, object]:
    found = [
        row for row in table.filter(pc.equal(table["user_id"], user_id)).to_pylist() if row["event_timestamp"] == moment
    ]
    assert len(found) == 1
    return found[0]


def test_what_happens_at_as_of_or_later_changes_no_bit_of_any_feature(
    shop: Shop, features: Path, tmp_path: Path
) -> None:
    users, items = (shop.frames[name].column(0).to_pylist() for name in ("users", "items"))
    campaign, live = (
        shop.frames["campaigns"]["campaign_id"][0].as_py(),
        shop.frames["campaigns"]["campaign_id"][8].as_py(),
    )
    events = [
        {
            "event_id": f"planted-{number}",
            "user_id": users[number % len(users)],
            "kind": ("purchase", "view", "review", "share")[number % 4],
            "event_time": AS_OF + timedelta(hours=number),
            "item_id": items[number % 7],
            "basket_id": f"planted-basket-{number}",
            "amount": 1e6,
            "coupon_discount": 5.0,
            "rating": 1.0,
        }
        for number in range(400)
    ]
    taken = [
        {"campaign_id": one, "user_id": user, "participated_at": AS_OF} for one in (campaign, live) for user in users
    ]
    known = set(zip(*(shop.frames["targets"][name].to_pylist() for name in ("campaign_id", "user_id")), strict=True))
    targets = [
        {"campaign_id": live, "user_id": user, "targeted_at": AS_OF} for user in users if (live, user) not in known
    ]
    planted = shop.adding("events", events).adding("participations", taken).adding("targets", targets)
    again = build(planted.write(tmp_path / "tables"), tmp_path / "features", as_of=AS_OF, threads=1)
    for name in ("users.parquet", "campaigns.parquet", "items.parquet"):
        assert (features / name).read_bytes() == (again / name).read_bytes(), name
    assert Catalogue.load(features / "catalogue").version == Catalogue.load(again / "catalogue").version
    before, after = (pq.read_table(folder / "pairs.parquet") for folder in (features, again))
    assert before.select(["user_id", "campaign_id", "decided_at"]) == after.select(
        ["user_id", "campaign_id", "decided_at"]
    )


def test_an_event_at_the_moment_of_a_decision_is_not_known_to_it(shop: Shop, features: Path, tmp_path: Path) -> None:
    decision = (
        shop.frames["targets"]
        .sort_by([("targeted_at", "ascending"), ("user_id", "ascending")])
        .slice(300, 1)
        .to_pylist()[0]
    )
    user_id, moment = decision["user_id"], decision["targeted_at"]
    item = shop.frames["items"]["item_id"][0].as_py()

    def bought(at: datetime) -> dict[str, object]:
        return {
            "event_id": "one-more",
            "user_id": user_id,
            "kind": "purchase",
            "event_time": at,
            "item_id": item,
            "amount": 7.0,
        }

    def portrait(at: datetime, name: str) -> dict[str, object]:
        tables = shop.adding("events", [bought(at)]).write(tmp_path / name)
        return row_at(
            pq.read_table(build(tables, tmp_path / f"{name}-features", as_of=AS_OF) / "users.parquet"), user_id, moment
        )

    as_it_was = row_at(pq.read_table(features / "users.parquet"), user_id, moment)
    at_it, before_it = portrait(moment, "at"), portrait(moment - timedelta(microseconds=1), "before")
    assert repr(at_it) == repr(as_it_was)
    assert before_it["behaviour__lines_7d"] == as_it_was["behaviour__lines_7d"] + 1
    assert before_it["affinity"] != as_it_was["affinity"]


def test_recency_frequency_and_spend_are_those_of_the_users_own_purchases(shop: Shop, features: Path) -> None:
    users = pq.read_table(features / "users.parquet")
    for user_id in shop.frames["users"]["user_id"].to_pylist()[:25]:
        row, past = row_at(users, user_id, AS_OF), purchases_of(shop, user_id, AS_OF)
        if not past:
            assert np.isnan(row["behaviour__recency_days"])
            continue
        age = [(AS_OF - line["event_time"]).total_seconds() / 86_400 for line in past]
        recent = [line for line, days in zip(past, age, strict=True) if days <= 90]
        assert row["behaviour__recency_days"] == pytest.approx(min(age), abs=1e-3)
        assert row["behaviour__lines_90d"] == len(recent)
        assert row["behaviour__baskets_90d"] == len({line["basket_id"] for line in recent})
        assert row["consumption__spend_90d"] == pytest.approx(
            sum(line["amount"] or 0 for line in recent), abs=0.01 * len(recent)
        )
        assert row["interest__product_breadth"] == len({line["item_id"] for line in past})


def test_a_decision_knows_only_earlier_campaigns_and_participations(shop: Shop, features: Path) -> None:
    users = pq.read_table(features / "users.parquet")
    targets, taken = shop.frames["targets"].to_pylist(), shop.frames["participations"].to_pylist()
    for decision in targets[:: len(targets) // 30]:
        user_id, moment = decision["user_id"], decision["targeted_at"]
        if moment >= AS_OF:
            continue
        row = row_at(users, user_id, moment)
        met = {one["campaign_id"] for one in targets if one["user_id"] == user_id and one["targeted_at"] < moment}
        redeemed = {
            one["campaign_id"] for one in taken if one["user_id"] == user_id and one["participated_at"] < moment
        }
        assert row["behaviour__campaigns_targeted"] == len(met)
        assert row["behaviour__campaigns_redeemed"] == len(met & redeemed)


def test_hours_and_weekdays_are_read_in_the_shops_zone(shop: Shop, tmp_path: Path) -> None:
    users = [f"clock-{number}" for number in range(2)]
    # 04:30 UTC: 22:30 of the Sunday before in winter, 23:30 in summer, both at night and on a Sunday.
    times = [datetime(2024, 2, 5, 4, 30, tzinfo=UTC), datetime(2024, 6, 10, 4, 30, tzinfo=UTC)]
    item = shop.frames["items"]["item_id"][0].as_py()
    bought = [
        {
            "event_id": f"at-{user}",
            "user_id": user,
            "kind": "purchase",
            "event_time": time,
            "item_id": item,
            "amount": 1.0,
        }
        for user, time in zip(users, times, strict=True)
    ]
    tables = (
        shop.adding("users", [{"user_id": user} for user in users]).adding("events", bought).write(tmp_path / "tables")
    )
    found = pq.read_table(build(tables, tmp_path / "features", as_of=AS_OF) / "users.parquet")
    for user in users:
        row = row_at(found, user, AS_OF)
        assert row["behaviour__trips_on_sunday"] == 1
        assert row["behaviour__trips_in_the_night"] == 1


def test_what_a_source_lacks_is_absent_and_never_invented(shop: Shop, features: Path, tmp_path: Path) -> None:
    attributes = [name for name in shop.frames["users"].column_names if name != "user_id"]
    events = shop.frames["events"]
    poor = Shop({**shop.frames, "events": events.filter(pc.equal(events["kind"], "purchase"))})
    poor = poor.without("users", *attributes).without("events", "coupon_discount", "discount")
    names = pq.read_schema(
        build(poor.write(tmp_path / "tables"), tmp_path / "features", as_of=AS_OF) / "users.parquet"
    ).names
    rich = pq.read_schema(features / "users.parquet").names
    for gone in ("base__", "social__", "interest__views", "consumption__coupon", "consumption__discount"):
        assert any(name.startswith(gone) for name in rich), gone
        assert not any(name.startswith(gone) for name in names), gone


def test_the_same_tables_give_the_same_content_hash(shop: Shop, features: Path, tmp_path: Path) -> None:
    again = build(shop.write(tmp_path / "tables"), tmp_path / "features", as_of=AS_OF, threads=1)
    assert read_manifest(again)["content_hash"] == read_manifest(features)["content_hash"]


def test_spend_and_excess_are_counted_on_the_campaigns_own_items(shop: Shop, features: Path) -> None:
    pairs = pq.read_table(features / "pairs.parquet").to_pylist()
    log_end = max(shop.frames["events"]["event_time"].to_pylist())
    promoted: dict[str, set[str]] = {}
    for row in shop.frames["campaign_items"].to_pylist():
        promoted.setdefault(row["campaign_id"], set()).add(row["item_id"])
    for pair in pairs[:: len(pairs) // 40]:
        start, end = pair["decided_at"], pair["ends_at"]
        mine = purchases_of(shop, pair["user_id"], end)
        on_items = [line for line in mine if line["item_id"] in promoted[pair["campaign_id"]]]
        spend = sum(line["amount"] or 0 for line in on_items if line["event_time"] >= start)
        before = sum(line["amount"] or 0 for line in on_items if line["event_time"] < start)
        first = min((line["event_time"] for line in purchases_of(shop, pair["user_id"], log_end)), default=start)
        usual = (
            before
            / max((start - first).total_seconds() / 86_400, 30)
            * (min(end, log_end) - start).total_seconds()
            / 86_400
        )
        assert pair["spend"] == pytest.approx(spend, abs=0.05)
        assert pair["excess"] == pytest.approx(spend - usual, abs=0.1)


def test_a_moment_before_every_purchase_is_refused(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"events\.kind: .*2020"):
        build(shop.write(tmp_path / "tables"), tmp_path / "features", as_of=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_moment_before_every_campaign_is_refused(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(PeriodError, match=r"targets.*2024-01-20"):
        build(shop.write(tmp_path / "tables"), tmp_path / "features", as_of=datetime(2024, 1, 20, tzinfo=UTC))
    assert not (tmp_path / "features").exists()
