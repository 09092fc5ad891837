"""Running sums say at any moment what adding up all earlier events one by one says."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import CONTRACT
from recommender.features import bought, build
from recommender.features.as_of import Running, last_before

SECOND, DAY = 1_000_000, 86_400_000_000


@pytest.mark.parametrize("seed", range(5))
def test_a_read_is_the_sum_of_what_was_known_strictly_before_the_moment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group_n, event_us_n = rng.integers(0, 6, 300), rng.integers(0, 40 * DAY, 300)
    later_n = np.where(rng.random(300) < 0.3, rng.integers(0, 20 * DAY, 300), 0)
    known_us_n, values_n = event_us_n + later_n, rng.integers(-9, 9, 300)
    group_Q = rng.integers(0, 8, 200)
    # Also the very microseconds and seconds at which something happens or leaves a window.
    exact = np.concatenate([known_us_n, event_us_n + 7 * DAY, (event_us_n // SECOND + 7 * 86_400 + 1) * SECOND])
    moment_us_Q = np.where(rng.random(200) < 0.5, rng.choice(exact, 200), rng.integers(0, 60 * DAY, 200))
    reading = Running(group_n, known_us_n, {"x": values_n}, event_us_n=event_us_n).at(group_Q, moment_us_Q)
    before, within = reading.before(["x"])["x"], reading.within(7, ["x"])["x"]
    for q, (group, moment) in enumerate(zip(group_Q, moment_us_Q, strict=True)):
        known = (group_n == group) & (known_us_n < moment)
        recent = moment // SECOND - event_us_n // SECOND <= 7 * 86_400
        assert before[q] == values_n[known].sum()
        assert within[q] == values_n[known & recent].sum()


def test_the_last_row_before_a_moment_is_of_the_same_group_and_strictly_earlier() -> None:
    group, times = np.array([0, 0, 0, 2]), np.array([10, 20, 20, 5])
    asked = [(0, 10), (0, 11), (0, 20), (0, 21), (1, 99), (2, 5), (2, 6), (3, 99)]
    found = last_before(group, times, *(np.array(column) for column in zip(*asked, strict=True)))
    assert found.tolist() == [-1, 0, 0, 2, -1, -1, 3, -1]


def _uneven(shop: Shop) -> Shop:
    """The shop with baskets whose lines have several times, purchases without a basket or shop, and returns."""
    rng = np.random.default_rng(7)
    rows = shop.frames["events"].to_pylist()
    for row in rows:
        if row["kind"] == "purchase":
            if rng.random() < 0.3:
                span = 3 * DAY if rng.random() < 0.1 else 4 * SECOND
                row["event_time"] += timedelta(microseconds=int(rng.integers(0, span)))
            row["basket_id"] = None if rng.random() < 0.1 else row["basket_id"]
            row["store_id"] = None if rng.random() < 0.2 else f"shop {rng.integers(5)}"
            row["coupon_discount"] = float(rng.integers(0, 2)) * 0.25
            if rng.random() < 0.1:
                row["returned_at"] = row["event_time"] + timedelta(microseconds=int(rng.integers(0, 40 * DAY)))
                row["returned_share"] = None if rng.random() < 0.5 else float(rng.choice([0.5, 0.37, 1.0]))
    columns = CONTRACT["events"].columns
    names = {*shop.frames["events"].column_names, "store_id", "coupon_discount", "returned_at", "returned_share"}
    schema = pa.schema([(name, column.dtype) for name, column in columns.items() if name in names])
    return Shop({**shop.frames, "events": pa.Table.from_pylist(rows, schema=schema)})


def _second(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1))


@pytest.mark.parametrize("part_rows", [400_000, 300])
def test_baskets_that_grow_and_purchases_that_come_back_count_as_known_at_each_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    monkeypatch.setattr(bought, "PART_ROWS", part_rows)
    monkeypatch.setattr(bought, "BATCH_ROWS", part_rows)
    shop = _uneven(Shop.generate(tmp_path / "world"))
    users = pq.read_table(build(shop.write(tmp_path / "tables"), tmp_path / "features", as_of=AS_OF) / "users.parquet")
    bought_by = defaultdict(list)
    for row in shop.frames["events"].filter(pc.equal(shop.frames["events"]["kind"], "purchase")).to_pylist():
        bought_by[row["user_id"]].append(row)
    for row in users.drop_columns(["affinity", "history"]).to_pylist()[::7]:
        moment, baskets = row["event_timestamp"], defaultdict(list)
        for line in bought_by[row["user_id"]]:
            back = line["returned_at"] is not None and _second(line["returned_at"]) < _second(moment)
            kept = 1 - (1.0 if line["returned_share"] is None else line["returned_share"]) if back else 1.0
            if line["event_time"] < moment and kept > 0:
                cents = round(line["amount"] * 100)
                net = int(np.floor(cents * kept + 0.5))
                basket = line["basket_id"] or line["event_time"]
                baskets[basket].append((line["event_time"], net, line["coupon_discount"] * kept > 0, line["store_id"]))
        latest = {basket: max(time for time, *_ in lines) for basket, lines in baskets.items()}
        age_s = {basket: _second(moment) - _second(time) for basket, time in latest.items()}
        if not baskets:
            assert np.isnan(row["behaviour__recency_days"])
            continue
        near = pytest.approx
        assert row["behaviour__recency_days"] == near(min(age_s.values()) / 86_400)
        assert row["behaviour__tenure_days"] == near(max(age_s.values()) / 86_400)
        weeks = {int(age // (7 * 86_400)) for age in age_s.values()}
        assert row["behaviour__active_weeks_share"] == near(len(weeks) * 7 / max(max(age_s.values()) / 86_400, 7))
        stores = {max((s for *_, s in lines if s is not None), default=None) for lines in baskets.values()} - {None}
        assert row["behaviour__num_stores"] == len(stores)
        for days in (7, 30, 90, 180, 365):
            recent = [baskets[basket] for basket, age in age_s.items() if age <= days * 86_400]
            assert row[f"behaviour__baskets_{days}d"] == len(recent)
            assert row[f"behaviour__lines_{days}d"] == sum(map(len, recent))
            assert row[f"consumption__spend_{days}d"] == near(sum(net for one in recent for _, net, *_ in one) / 100)
            assert row[f"consumption__coupon_lines_{days}d"] == sum(coupon for one in recent for _, _, coupon, _ in one)
        largest = max(sum(net for _, net, *_ in lines) for lines in baskets.values())
        assert row["consumption__largest_basket"] == near(largest / 100)
