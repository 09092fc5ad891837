"""Tmall, IJCAI-15: half a year of clicks before "Double 11", and which new buyers of a merchant came again.

Traps: time_stamp is month and day without a year; kinds are digits; a campaign is a merchant's Double 11, whose window
stands in the description of the data only; `test_format1.csv` has pairs without a label.
"""

from datetime import date, timedelta
from pathlib import Path

from shapes.export_files import write_csv

USERS = (328862, 234512, 356311, 344639, 34176, 230784, 362112, 54901, 163968, 360576, 98688, 295296)
# Each with cat_id, seller_id, brand_id.
ITEMS = (
    (323294, 833, 2882, 2661), (844400, 1271, 2882, 2661), (575153, 1271, 2882, 2661), (996875, 1271, 2882, 2661),
    (1086186, 1271, 1253, 1049), (623866, 1271, 1253, 1049), (542871, 1467, 1253, ""), (536347, 1095, 3906, 1647),
    (364513, 1023, 3906, 1647), (575633, 1023, 3906, 5357), (294113, 1095, 4356, 5357), (109232, 420, 4356, 3969),
)  # fmt: skip
FIRST_DAY = date(2014, 5, 11)
TRAIN = (
    (34176, 3906, 0), (34176, 2882, 0), (34176, 4356, 1), (230784, 1253, 0), (230784, 3906, 0), (362112, 2882, 0),
    (234512, 4356, 0), (356311, 1253, 1), (344639, 3906, 0), (328862, 2882, 0), (54901, 4356, 0), (98688, 2882, 1),
)  # fmt: skip


def write(folder: Path) -> list[Path]:
    log = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"
    people = [(user, ("6", "5", "", "4", "0")[n % 5], ("1", "0", "2", "")[n % 4]) for n, user in enumerate(USERS)]
    test = [(163968, 2882, ""), (360576, 1253, ""), (295296, 3906, "")]
    return [
        write_csv(folder / "user_log_format1.csv", log, _log()),
        write_csv(folder / "user_info_format1.csv", "user_id,age_range,gender", people),
        write_csv(folder / "train_format1.csv", "user_id,merchant_id,label", TRAIN),
        write_csv(folder / "test_format1.csv", "user_id,merchant_id,prob", test),
    ]


def _log() -> list[tuple[object, ...]]:
    """Every twelfth day a user clicks on two items and does something with the first. All buy on Double 11."""
    rows: list[tuple[object, ...]] = []
    for n, user in enumerate(USERS):
        for visit in range(15):
            day = FIRST_DAY + timedelta(days=12 * visit + n)
            first, other = (n + visit) % len(ITEMS), (3 * n + visit + 5) % len(ITEMS)
            for item, action in ((first, 0), (other, 0), (first, (1, 2, 3)[visit % 3])):
                rows.append((user, *ITEMS[item], f"{day:%m%d}", action))
        rows.append((user, *ITEMS[n], "1111", 2))
    return rows


RECIPE = """\
[source]
time_zone = "Asia/Shanghai"

[inputs.log]
file = "user_log_format1.csv"

[inputs.train]
file = "train_format1.csv"

[tables.events]
file = "user_log_format1.csv"
columns = { event_time = "time_stamp", kind = "action_type", store_id = "seller_id" }
formats = { event_time = "%m%d" }
first_day = 2014-05-11
values = { kind = { 0 = "click", 1 = "cart", 2 = "purchase", 3 = "favourite" } }

[tables.users]
file = "user_info_format1.csv"
columns = { age_band = "age_range" }

[tables.items]
query = "SELECT item_id, max(cat_id) AS category, max(brand_id) AS brand FROM log GROUP BY ALL"

[tables.campaigns]
query = "SELECT DISTINCT merchant_id AS campaign_id, '2014-11-12' AS starts_at, '2015-05-11' AS ends_at FROM train"
constants = { kind = "promotion" }

[tables.campaign_items]
query = '''
SELECT DISTINCT seller_id AS campaign_id, item_id FROM log WHERE seller_id IN (SELECT merchant_id FROM train)
'''

[tables.targets]
file = "train_format1.csv"
columns = { campaign_id = "merchant_id" }
label = "label"
"""

JUDGED = {
    "events": ("user_id", "item_id", "kind", "store_id"),
    "users": ("user_id", "gender"),
    "targets": ("campaign_id", "user_id"),
    "participations": ("campaign_id", "user_id"),
}

CHECKS = [
    # Twelve users, 15 visits: two clicks and one of three other kinds, five times each; and the Double 11.
    (
        "SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1",
        [("cart", 60), ("click", 360), ("favourite", 60), ("purchase", 72)],
    ),
    (
        "SELECT timezone('Asia/Shanghai', min(event_time))::DATE::VARCHAR, "
        "timezone('Asia/Shanghai', max(event_time))::DATE::VARCHAR FROM events",
        [("2014-05-11", "2014-11-11")],
    ),
    # The last visit of the last user: 12 x 14 + 11 = 179 days after 11 May is 6 November.
    (
        "SELECT timezone('Asia/Shanghai', max(event_time))::DATE::VARCHAR FROM events "
        "WHERE user_id = '295296' AND kind = 'click'",
        [("2014-11-06",)],
    ),
    ("SELECT count(*), count(DISTINCT campaign_id) FROM targets", [(12, 4)]),
    (
        "SELECT campaign_id, user_id FROM participations ORDER BY 1",
        [("1253", "356311"), ("2882", "98688"), ("4356", "34176")],
    ),
    ("SELECT campaign_id, count(*) FROM campaign_items GROUP BY 1 ORDER BY 1",
     [("1253", 3), ("2882", 4), ("3906", 3), ("4356", 2)]),
]  # fmt: skip
