"""A return takes its purchase back: no participation, no spend, no line, and nothing before it happened."""

import csv
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop
from small_shop import SmallShop, ask

from recommender.datasets import ingest
from recommender.datasets.contract import check
from recommender.datasets.tables import Tables
from recommender.features.build import build
from recommender.settings import SourceSettings

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-data"
HEADER = "user_id,event_time,item_id,quantity,amount\n"
MARKS = (
    "SELECT event_id, kind, quantity, amount, strftime(returned_at, '%d %H'), returned_share FROM events "
    "ORDER BY event_time, event_id"
)


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    return SmallShop(tmp_path)


def test_a_return_in_the_window_is_no_participation(shop: SmallShop) -> None:
    shop.write("events.csv", (shop.folder / "events.csv").read_text() + "18,2024-03-13 09:00:00,tin,-1,-9.5\n")
    tables = shop.read()
    check(tables)
    assert ask(tables, "SELECT user_id FROM participations") == [("17",)]
    assert ask(tables, MARKS)[1] == ("0-3", "purchase", 1.0, 9.5, "13 08", 1.0)
    assert ask(tables, MARKS)[3] == ("0-5", "return", 1.0, 9.5, None, None)


@pytest.mark.parametrize("word", ["refund", "return", "退货"])
def test_a_kind_that_means_return_is_one_whatever_its_sign(shop: SmallShop, word: str) -> None:
    shop.write(
        "events.csv",
        "user_id,event_time,item_id,kind,amount\n17,2024-03-12 12:00:00,tin,purchase,9.5\n"
        f"17,2024-03-13 12:00:00,tin,{word},9.5\n",
    )
    values = "" if word == "return" else f'values = {{ kind = {{ "{word}" = "return" }} }}\n'
    shop.parts["events"] = f'file = "events.csv"\n{values}'
    tables = shop.read()
    assert tables.manifest["rows"]["participations"] == 0
    assert ask(tables, "SELECT returned_share FROM events WHERE kind = 'purchase'") == [(1.0,)]


def test_the_most_recent_earlier_purchases_are_taken_back_up_to_the_quantity(shop: SmallShop) -> None:
    lines = ["02,2,tin", "03,1,tin", "04,3,jar", "05,-2,tin", "06,1,tin", "07,-1,tin"]
    rows = "".join(f"17,2024-03-{day} 10:00:00,{item},{qty},{float(qty) * 5}\n" for day, qty, item in
                   (line.split(",") for line in lines))  # fmt: skip
    shop.write("events.csv", HEADER + rows)
    found = {str(row[0]): row[4:] for row in ask(shop.read(), MARKS) if row[1] == "purchase"}
    assert found == {
        "0-2": ("05 09", 0.5),  # one of two: the later purchase went first
        "0-3": ("05 09", 1.0),
        "0-4": (None, None),  # another item
        "0-6": ("07 09", 1.0),
    }


def test_a_purchase_that_goes_back_in_two_parts_is_gone_with_the_second(shop: SmallShop) -> None:
    rows = "17,2024-03-02 10:00:00,tin,2,10\n17,2024-03-05 10:00:00,tin,-1,-5\n17,2024-03-09 10:00:00,tin,-1,-5\n"
    shop.write("events.csv", HEADER + rows)
    assert ask(shop.read(), MARKS)[0] == ("0-2", "purchase", 2.0, 10.0, "09 09", 1.0)


def test_a_return_without_a_purchase_takes_back_nothing_later(shop: SmallShop) -> None:
    rows = "17,2024-03-02 10:00:00,tin,-1,-5\n17,2024-03-12 10:00:00,tin,1,5\n"
    shop.write("events.csv", HEADER + rows)
    tables = shop.read()
    assert ask(tables, "SELECT user_id FROM participations") == [("17",)]
    assert "1 have no earlier purchase" in " ".join(tables.manifest["decisions"])


def test_without_quantities_money_is_counted_and_without_money_lines(shop: SmallShop) -> None:
    rows = "17,2024-03-02 10:00:00,tin,20\n17,2024-03-05 10:00:00,tin,-5\n"
    shop.write("events.csv", "user_id,event_time,item_id,amount\n" + rows)
    assert ask(shop.read(), "SELECT returned_share FROM events WHERE kind = 'purchase'") == [(0.25,)]


def test_returns_are_kept_where_the_mapping_says_so(shop: SmallShop) -> None:
    shop.source += 'returns = "keep"\n'
    shop.write("events.csv", (shop.folder / "events.csv").read_text() + "18,2024-03-13 09:00:00,tin,-1,-9.5\n")
    tables = shop.read()
    assert not tables.has("events", "returned_at")
    assert ask(tables, "SELECT amount FROM events WHERE quantity < 0") == [(-9.5,)]
    assert ask(tables, "SELECT user_id FROM participations") == [("17",)]


def test_a_return_of_the_same_day_follows_its_purchase(shop: SmallShop) -> None:
    rows = "17,2024-03-12,tin,-1,-5\n17,2024-03-12,tin,1,5\n"
    shop.write("events.csv", HEADER + rows)
    assert shop.read().manifest["rows"]["participations"] == 0


def _example(folder: Path, *, returned: bool) -> Tables:
    """The example shop with derived participations, with or without every line returned 20 days later."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    text = (folder / "mapping.toml").read_text()
    (folder / "mapping.toml").write_text(text[: text.index("[tables.participations]")])
    if returned:
        with (folder / "orders.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        for line in list(lines):
            later = datetime.strptime(line["ordered_at"], "%d.%m.%Y %H:%M") + timedelta(days=20)
            back = {"ordered_at": later.strftime("%d.%m.%Y %H:%M"), "pieces": f"-{line['pieces']}"}
            lines.append(line | back | {"paid": f"-{line['paid']}"})
        with (folder / "orders.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return ingest(SourceSettings(dataset="files", mapping=str(folder / "mapping.toml")), folder / "tables")


def test_a_shop_whose_every_line_is_returned_has_no_participations_and_no_spend(tmp_path: Path) -> None:
    before = _example(tmp_path / "before", returned=False)
    after = _example(tmp_path / "after", returned=True)
    assert before.manifest["rows"]["participations"] > 300
    assert after.manifest["rows"]["participations"] == 0
    net = "SELECT sum(amount * (1 - coalesce(returned_share, 0))) FROM events WHERE kind = 'purchase'"
    assert ask(after, net) == [(0.0,)]


def _features(shop: Shop, folder: Path, as_of: datetime = AS_OF) -> pa.Table:
    build(shop.write(folder / "tables"), folder / "features", as_of=as_of, threads=1)
    return pq.read_table(folder / "features" / "users.parquet")


def _with_return(shop: Shop, *, days_after_as_of: float, share: float) -> tuple[Shop, str]:
    """The shop where the last purchase before `AS_OF` was returned some days after it."""
    events = shop.frames["events"]
    rows = events.to_pylist()
    last = max(
        (row for row in rows if row["kind"] == "purchase" and row["event_time"] < AS_OF),
        key=lambda row: row["event_time"],
    )
    at = AS_OF + timedelta(days=days_after_as_of)
    mine = [row["event_id"] == last["event_id"] for row in rows]
    times = pa.array([at if one else None for one in mine], pa.timestamp("us", tz="UTC"))
    shares = pa.array([share if one else None for one in mine], pa.float64())
    events = events.append_column("returned_at", times).append_column("returned_share", shares)
    return Shop({**shop.frames, "events": events}), str(last["user_id"])


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, pa.Table]:
    folder = tmp_path_factory.mktemp("kept")
    shop = Shop.generate(folder / "shop")
    return shop, _features(shop, folder)


def test_a_return_after_the_decision_changes_no_feature(features: tuple[Shop, pa.Table], tmp_path: Path) -> None:
    shop, before = features
    later, _ = _with_return(shop, days_after_as_of=3, share=1.0)
    after = _features(later, tmp_path)
    assert after.column_names == before.column_names
    for name in before.column_names:
        np.testing.assert_array_equal(after[name].to_pylist(), before[name].to_pylist())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_return_before_the_decision_takes_lines_and_spend_back(
    features: tuple[Shop, pa.Table], tmp_path: Path, share: float
) -> None:
    shop, before = features
    returned, user = _with_return(shop, days_after_as_of=-0.001, share=share)
    after = _features(returned, tmp_path)

    def now(table: pa.Table, column: str) -> float:
        rows = [
            row for row in table.select(["user_id", "event_timestamp", column]).to_pylist() if row["user_id"] == user
        ]
        return float(max(rows, key=lambda row: row["event_timestamp"])[column])

    lines = now(before, "behaviour__lines_365d") - now(after, "behaviour__lines_365d")
    spend = now(before, "consumption__spend_365d") - now(after, "consumption__spend_365d")
    assert lines == (1 if share == 1 else 0)
    assert spend > 0
    others = [row for row, owner in enumerate(before["user_id"].to_pylist()) if owner != user]
    columns = [name for name in before.column_names if name.startswith(("behaviour__", "consumption__"))]
    for name in columns:
        np.testing.assert_array_equal(after[name].take(others).to_numpy(), before[name].take(others).to_numpy())


def test_days_without_hours_make_no_habit_of_the_night(shop: SmallShop) -> None:
    people = range(20)
    shop.write("events.csv", HEADER + "".join(f"{n},2024-03-{day:02d},tin,1,5\n" for n in people for day in (2, 5, 12)))
    shop.write("targets.csv", "campaign_id,user_id\n" + "".join(f"spring,{n}\n" for n in people))
    tables = shop.read()
    build(tables, shop.folder / "features", as_of=datetime(2024, 3, 15, tzinfo=UTC), threads=1)
    columns = pq.read_schema(shop.folder / "features" / "users.parquet").names
    assert "behaviour__trips_on_saturday" in columns
    assert not [name for name in columns if "night" in name or "evening" in name]


def test_days_among_times_count_for_no_hour(shop: SmallShop) -> None:
    people = range(20)
    rows = "".join(f"{n},2024-03-02,tin,1,5\n{n},2024-03-05 12:00:00,tin,1,5\n" for n in people)
    shop.write("events.csv", HEADER + rows)
    shop.write("targets.csv", "campaign_id,user_id\n" + "".join(f"spring,{n}\n" for n in people))
    build(shop.read(), shop.folder / "features", as_of=datetime(2024, 3, 15, tzinfo=UTC), threads=1)
    found = pq.read_table(shop.folder / "features" / "users.parquet")
    assert set(found["behaviour__trips_in_the_night"].to_pylist()) <= {0.0}
    assert max(found["behaviour__trips_in_the_midday"].to_pylist()) == 0.5
