"""A kind of event that never has a column is not missing it, and one that usually has it is."""

from pathlib import Path

import pytest
from small_shop import SmallShop

from recommender.datasets.checks import Check, all_checks
from recommender.datasets.contract import open_views
from recommender.datasets.statistics import measure

BUSY_DAY = 15


def check_of(folder: Path, *, views_name_items: bool, mailing_names_items: bool) -> Check:
    """The check of empty items, for a month of six purchases a day and a day on which 300 e-mails are opened."""
    shop = SmallShop(folder)
    rows = ["user_id,event_time,kind,item_id"]
    for day in range(1, 29):
        rows += [f"{user},2024-03-{day:02d} 1{user}:00:00,purchase,tin" for user in range(6)]
        if views_name_items:
            rows += [f"{user},2024-03-{day:02d} 1{user}:30:00,view,tin" for user in range(6)]
    item = "tin" if mailing_names_items else ""
    rows += [f"{n % 6},2024-03-{BUSY_DAY} 08:{n // 6:02d}:{n % 6:02d},view,{item}" for n in range(300)]
    shop.write("events.csv", "\n".join(rows) + "\n")
    shop.parts["events"] = 'file = "events.csv"\n'
    tables = shop.read()
    with open_views(tables) as connection:
        checks = all_checks(measure(connection, tables, tables.log_end))
    return next(check for check in checks if check.name == "events.item_id.empty")


@pytest.mark.parametrize(
    ("views_name_items", "mailing_names_items", "holds"),
    [(False, False, True), (True, True, True), (True, False, False)],
)
def test_a_day_of_opened_mails_is_no_day_without_items(
    tmp_path: Path, views_name_items: bool, mailing_names_items: bool, holds: bool
) -> None:
    check = check_of(tmp_path, views_name_items=views_name_items, mailing_names_items=mailing_names_items)
    assert check.holds is holds
    assert holds or f"2024-03-{BUSY_DAY}" in check.cause
