"""Accidents in an export are noticed after good runs and on a first one, and good days raise no alarm.

A slice of `make bench-accidents`, with the real engine.
"""

import json
from pathlib import Path

import pytest

from benchmarks.accidents.daily import DailyRuns
from benchmarks.accidents.injected import ACCIDENTS
from benchmarks.accidents.shop import SeasonalShop
from benchmarks.accidents.simulated import false_alarms

SLICE = (
    "amounts in cents for the last 2 days",
    "six days missing",
    "user ids re-encoded in the events only",
    "a lone event in 2099",
    "one department for all items",
    "categories renamed",
    "the column department dropped",
)
DAYS = 150

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> DailyRuns:
    shop = SeasonalShop.drawn(seed=3, num_days=DAYS, events_a_day=150, num_users=300)
    runs = DailyRuns(shop, tmp_path_factory.mktemp("shop"))
    for day in (DAYS - 4, DAYS - 3):
        assert runs.good_day(day) == []
    return runs


@pytest.mark.parametrize("name", SLICE)
def test_an_accident_is_noticed_by_a_check_that_names_its_cause(runs: DailyRuns, name: str) -> None:
    (accident,) = (one for one in ACCIDENTS if one.name == name)
    seen = runs.accident(accident, DAYS - 2, first=False)
    assert any(check.startswith(accident.checks) for check in seen.failed), json.dumps(seen.failed)


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("amounts in cents in all rows", "events.amount.against_price"),
        ("day and month swapped where both are 12 or less", "events.event_time.day_and_month"),
    ],
)
def test_an_accident_that_the_files_show_is_named_on_a_first_run(runs: DailyRuns, name: str, check: str) -> None:
    (accident,) = (one for one in ACCIDENTS if one.name == name)
    seen = runs.accident(accident, DAYS - 2, first=True)
    assert seen.stopped
    assert check in seen.failed


def test_the_limits_of_the_newest_days_keep_their_budget_on_simulated_good_days() -> None:
    found = false_alarms(seed=5, shops=3, days=40)
    assert found["days"] == 120
    assert found["alarmed"] <= 2


def test_the_list_of_accidents_is_the_one_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert len(ACCIDENTS) >= 30
    for accident in ACCIDENTS:
        assert accident.name in page
