"""Taobao UserBehavior (Alibaba Tianchi): nine days of views, carts, favourites and purchases, without a header.

Traps: no header; the kinds are words of their own; seconds since 1970; the real file has some times before 1970.
"""

from pathlib import Path

from shapes.export_files import write_csv

USERS = (1, 100, 115, 1000011, 100004, 100008, 1017, 10183, 571, 999507)
ITEMS = (2268318, 2333346, 2576651, 3830808, 4365585, 4606018, 230380, 3827899, 3745169, 1531036, 2951368, 46259)
CATEGORIES = (2520377, 2520771, 149192, 4181361, 2520377, 2735466)
MIDNIGHT = 1511539200
"""2017-11-25 00:00 in Shanghai, where the nine days begin."""


def write(folder: Path) -> list[Path]:
    return [write_csv(folder / "UserBehavior.csv", None, _rows())]


def _rows() -> list[tuple[object, ...]]:
    """For nine days every user views two items; one is put into the cart, bought or kept on some days."""
    rows: list[tuple[object, ...]] = []
    for n, user in enumerate(USERS):
        for day in range(9):
            second = MIDNIGHT + 86_400 * day + 3_600 * (8 + n) + 61 * n
            first, other = (n + day) % len(ITEMS), (2 * n + day + 5) % len(ITEMS)
            for step, item in enumerate((first, other)):
                rows.append((user, ITEMS[item], CATEGORIES[item % 6], "pv", second + 300 * step))
            kind = ("cart", "fav", "buy")[day % 3]
            rows.append((user, ITEMS[first], CATEGORIES[first % 6], kind, second + 1_000))
    rows.append((999507, ITEMS[0], CATEGORIES[0], "pv", -2134949234))
    return rows


RECIPE = """\
[source]
time_zone = "Asia/Shanghai"

[inputs.behaviour]
file = "UserBehavior.csv"
header = ["user_id", "item_id", "category_id", "behavior_type", "timestamp"]

[tables.events]
file = "UserBehavior.csv"
header = ["user_id", "item_id", "category_id", "behavior_type", "timestamp"]
columns = { kind = "behavior_type", event_time = "timestamp" }
values = { kind = { pv = "view", fav = "favourite", buy = "purchase" } }

[tables.items]
query = "SELECT item_id, max(category_id) AS category FROM behaviour GROUP BY ALL"
"""

JUDGED = {"events": ("user_id", "item_id", "kind", "event_time")}

CHECKS = [
    # Ten users, nine days: two views and one of the other kinds, on three days each.
    (
        "SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1",
        [("cart", 30), ("favourite", 30), ("purchase", 30), ("view", 180)],
    ),
    # User 1 buys on the third day, at 8:16:40 in Shanghai.
    (
        "SELECT item_id, event_time = TIMESTAMPTZ '2017-11-27 00:16:40+00' FROM events "
        "WHERE user_id = '1' AND kind = 'purchase' ORDER BY event_time LIMIT 1",
        [("2576651", True)],
    ),
    # Day 0 belongs to the log; the time of 1902 does not.
    ("SELECT min(event_time) = TIMESTAMPTZ '2017-11-25 00:00:00+00' FROM events", [(True,)]),
    ("SELECT category FROM items WHERE item_id = '46259'", [("2735466",)]),
]
