"""What counts as "now" without a stated moment: the last day that the log's own rows support."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from recommender.datasets.files import ingest
from recommender.datasets.support import supported_days

SPRING = {date(2024, 1, 1) + timedelta(days=day): 100 for day in range(100)}
FIRST, LAST = min(SPRING), max(SPRING)

MAPPING = """
[source]
time_zone = "Europe/Berlin"
[tables.events]
file = "events.csv"
constants = { kind = "purchase" }
[tables.campaigns]
file = "campaigns.csv"
constants = { kind = "promotion" }
[tables.campaign_items]
file = "campaign_items.csv"
[tables.targets]
file = "targets.csv"
"""


@pytest.mark.parametrize(
    "strays",
    [
        {date(2099, 1, 1): 1},
        {date(2024, 4, 30): 1, date(2024, 6, 1): 2, date(2026, 1, 1): 1, date(2099, 12, 31): 3},
        {date(2099, 12, 31): 400},
        {date(2024, 6, 1): 5, date(2024, 6, 2): 5},
        {date(1, 1, 1): 1},
        {date(1970, 1, 1): 30},
    ],
    ids=["a lone date", "a handful", "a default date of many rows", "two thin days", "the year 1", "epoch zero"],
)
def test_dates_that_the_log_does_not_support_move_neither_end(strays: dict[date, int]) -> None:
    assert supported_days({**SPRING, **strays}) == (FIRST, LAST)


@pytest.mark.parametrize(
    "later",
    [
        {LAST + timedelta(days=4): 3},
        {LAST + timedelta(days=40): 90},
        {LAST + timedelta(days=day): 4 for day in (3, 6, 9)},
    ],
    ids=["a short holiday", "a shop that reopens", "a shop that fades"],
)
def test_days_that_follow_soon_or_with_usual_volume_count(later: dict[date, int]) -> None:
    assert supported_days({**SPRING, **later}) == (FIRST, max(later))


def test_a_log_of_four_rows_ends_before_its_far_one() -> None:
    days = dict.fromkeys((date(2024, 3, 2), date(2024, 3, 3), date(2024, 3, 12), date(2099, 1, 1)), 1)
    assert supported_days(days) == (date(2024, 3, 2), date(2024, 3, 12))


def test_an_empty_log_has_no_end() -> None:
    assert supported_days({}) is None


def test_now_of_a_shop_with_one_mistyped_year_is_its_last_real_event(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    (tmp_path / "campaigns.csv").write_text("campaign_id,starts_at,ends_at\nspring,2024-03-10,2024-03-20\n")
    (tmp_path / "campaign_items.csv").write_text("campaign_id,item_id\nspring,tin\n")
    (tmp_path / "targets.csv").write_text("campaign_id,user_id\nspring,17\nspring,18\n")
    times = ("2024-03-02 10:00:00", "2024-03-03 11:00:00", "2024-03-12 12:00:00", "2099-01-01 10:00:00")
    lines = [f"{17 + row % 2},{time},tin,1,9.5" for row, time in enumerate(times)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,event_time,item_id,quantity,amount", *lines]) + "\n")
    tables = ingest(tmp_path / "mapping.toml", tmp_path / "tables")
    assert tables.log_end == datetime(2024, 3, 12, 11, tzinfo=UTC)
    assert json.loads((tables.folder / "manifest.json").read_text())["rows"]["events"] == 4
