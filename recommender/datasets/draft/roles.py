"""What one file of a draft holds: a log, orders or their lines, items, users, campaigns, targets and so on."""

import re
from typing import Literal

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.headers import table_words, tokens
from recommender.datasets.draft.kinds import code_of, kind_of

Role = Literal[
    "promoted",
    "log",
    "orders",
    "lines",
    "reviews",
    "items",
    "users",
    "campaigns",
    "campaign_items",
    "coupon_items",
    "targets",
    "participations",
]
MONEY = ("amount", "unit_price", "order_total")
KNOWN_WORDS = 0.3
"""Share of a column's words that must be known kinds for it to be the kind. A shop has words of its own. By hand."""
DAY_NUMBERS = (0, 10_000)
"""Numbers between which a column of days counts them from the first: 27 years."""


FILES_OF_KINDS = (
    (r"return|refund|retour|retoure|devol|退货|退款", "return"),
    (r"wish|favou?rite|bookmark|收藏|merkliste", "favourite"),
    (r"cart(?!e)|basket|warenkorb|panier|carrito|加购|abandon", "cart"),
    (r"search|suche|busqueda|搜索", "search"),
    (r"review|rating|bewertung|avis|评价", "review"),
    (r"comment|kommentar|评论", "comment"),
    (r"(^|_)(likes?|点赞)(_|$)", "like"),
    (r"(^|_)(shares?|geteilt)(_|$)", "share"),
    (r"click|klick", "click"),
    (r"view|visit|page|impression|open|browse|浏览", "view"),
    (r"play|listen|stream|watch", "view"),
)
"""Words in the name of a file -> the kind of all its events."""
NO_EVENTS = (
    r"shipment|shipping|deliver|helpdesk|support|staff|employee|inventor|payment|payout|setting|ledger|points|\bstock"
)
"""Words in the names of files whose rows are no acts of shoppers, although they name users and times."""


def kind_of_file(file: FileEvidence) -> str | None:
    """The kind that a file's name gives to all its events. None where it says nothing, or also names orders."""
    stem = "_".join(tokens(file.stem))
    return next((kind for pattern, kind in FILES_OF_KINDS if re.search(pattern, stem)), None)


def kind_column(file: FileEvidence) -> ColumnEvidence | None:
    """The column of a file that says what was done, judged by its words."""
    for column in file.candidates("kind"):
        words = list(column.words)
        if len(words) > 100:
            continue
        known = [word for word in words if kind_of(word) is not None]
        if len(known) >= max(1, KNOWN_WORDS * len(words)) or code_of(words) is not None:
            return column
    return None


def time_column(file: FileEvidence, meaning: str = "event_time") -> ColumnEvidence | None:
    """The likeliest column of a time: one with hours before one without, among those that can be read."""
    readable = [column for column in file.candidates(meaning) if column.is_time]
    precise = [column for column in readable if has_hours(column)]
    if precise and readable and not has_hours(readable[0]) and _same_day(readable[0], precise[0]):
        return precise[0]
    return next((column for column in readable if column.filled_share > 0.5), next(iter(readable), None))


def _same_day(day: ColumnEvidence, moment: ColumnEvidence) -> bool:
    """Whether two columns can be one moment: as many values, and one only adds the hour."""
    return abs(day.filled_share - moment.filled_share) < 0.05 and moment.distinct >= day.distinct


def has_hours(column: ColumnEvidence) -> bool:
    """Whether a time has a time of day, other than midnight throughout."""
    if column.file.types[column.name] == "DATE":
        return False
    texts = column.seen.commonest
    if not texts:
        return False
    if all(text.replace(".", "").isdigit() for text in texts):
        return any(len(text.split(".")[0]) >= 10 for text in texts)
    return any(":" in text for text in texts) and not all("00:00:00" in text or " 0:00" in text for text in texts)


def is_day_number(column: ColumnEvidence | None) -> bool:
    """Whether a column counts days from the first day of the data."""
    if column is None or not column.is_number or column.is_time:
        return False
    smallest, largest, whole, _ = column.numbers
    return whole == 1 and DAY_NUMBERS[0] <= smallest and largest < DAY_NUMBERS[1] and largest > 1


def window_column(file: FileEvidence, meaning: str) -> ColumnEvidence | None:
    """The column of the start or the end of a window: times, or numbers of days."""
    found = file.candidates(meaning)
    return next((column for column in found if column.is_time or is_day_number(column)), None)


def role_of(file: FileEvidence) -> Role | None:
    """The role of a file. None where it fits no table."""
    user, item, order = file.first("user") or file.first("email"), file.first("item"), file.first("order")
    promoted = file.first("campaign") or file.first("coupon")
    traded = any(file.has(one) for one in ("quantity", *MONEY))
    for role in (
        _of_campaigns(file, user, item, promoted),
        _of_pairs(file, user, item, promoted, traded=traded or order is not None),
        _of_entities(file, user, item, order),
        _of_events(file, user, item, order, traded=traded),
    ):
        if role is not None:
            return role
    return None


def _of_campaigns(
    file: FileEvidence, user: ColumnEvidence | None, item: ColumnEvidence | None, promoted: ColumnEvidence | None
) -> Role | None:
    if user is not None or (item is not None and not table_words(file.stem, "campaigns")):
        return None
    window = window_column(file, "starts_at") or window_column(file, "ends_at")
    sent = time_column(file, "targeted_at")
    named = file.first("name")
    key = promoted if promoted is not None and promoted.is_unique else named
    if key is not None and key.is_unique and (window or sent) and (promoted or table_words(file.stem, "campaigns")):
        return "campaigns"
    if promoted is not None and window_column(file, "starts_at") and window_column(file, "ends_at") and item is None:
        return "campaigns"
    return None


def _of_pairs(
    file: FileEvidence,
    user: ColumnEvidence | None,
    item: ColumnEvidence | None,
    promoted: ColumnEvidence | None,
    *,
    traded: bool,
) -> Role | None:
    if user is not None and promoted is None and file.first("store") is not None and label_column(file) is not None:
        return "targets"
    if promoted is None or promoted.filled_share < 0.9:
        return None
    composed = [one for one in ("category", "brand", "manufacturer") if file.has(one)]
    if user is None and item is None and promoted.is_unique and len(composed) > 1 and time_column(file) is None:
        return "promoted"
    named = table_words(file.stem, "participations") or file.has("participated_at")
    if traded and not (named and user is not None and item is None and not file.has("quantity")):
        return None
    if user is None:
        if item is None or time_column(file) is not None:
            return None
        return "campaign_items" if file.first("campaign") is not None else "coupon_items"
    if kind_column(file) is not None:
        return None
    if kind_of_file(file) in ("view", "click") and not file.has("targeted_at"):
        return "log"
    if label_column(file) is not None:
        return "targets"
    taken_at = file.first("participated_at")
    in_part = taken_at is not None and taken_at.filled_share < 0.9
    takes = table_words(file.stem, "participations") > table_words(file.stem, "targets")
    if not in_part and (takes or (taken_at is not None and not file.has("targeted_at"))):
        return "participations"
    return "targets"


def _of_entities(
    file: FileEvidence, user: ColumnEvidence | None, item: ColumnEvidence | None, order: ColumnEvidence | None
) -> Role | None:
    if order is not None:
        return None
    if item is not None and item.is_unique and user is None:
        return "items"
    users = [column for one in ("user", "email") for column in file.candidates(one)]
    if item is not None and user is None and not _has_acts(file):
        return "items"
    if item is None and user is not None and not _has_acts(file) and any(file.has(one) for one in ABOUT_USERS):
        return "users"
    if item is None and any(column.is_unique for column in users) and kind_column(file) is None:
        return "users"
    return None


ABOUT_USERS = ("joined_at", "gender", "age_band", "region", "income_band", "household_size", "name")
"""Columns of a file that describes users."""


def _has_acts(file: FileEvidence) -> bool:
    """Whether rows have what only acts have: a time, a number of pieces, an amount or a kind."""
    traded = any(file.has(one) for one in ("quantity", "amount", "order_total"))
    timed = any(column.is_time and "joined_at" not in column.meanings for column in file.candidates("event_time"))
    return traded or timed or file.has("rating") or kind_column(file) is not None


def _of_events(
    file: FileEvidence,
    user: ColumnEvidence | None,
    item: ColumnEvidence | None,
    order: ColumnEvidence | None,
    *,
    traded: bool,
) -> Role | None:
    timed = event_time_known(file)
    if re.search(NO_EVENTS, "_".join(tokens(file.stem))) and (kind_column(file) is None or file.first("item") is None):
        return None
    if order is not None and order.is_unique and item is None and (user is not None or timed):
        return "orders" if not file.has("rating") else "reviews"
    if file.has("rating") and item is None and order is not None:
        return "reviews"
    if item is not None and order is not None and (user is None or not timed):
        return "lines"
    is_act = item is not None or traded or kind_column(file) is not None or file.has("query") or file.has("page")
    if is_act and timed and (user is not None or repeated_bare_key(file) is not None):
        return "log"
    # Without a time it is a log all the same, and the draft says what is missing.
    if user is not None and not user.is_unique and (item is not None or kind_column(file) is not None):
        return "log"
    return None


def event_time_known(file: FileEvidence) -> bool:
    """Whether the file says when its rows happened, in whatever way."""
    return (
        time_column(file) is not None
        or is_day_number(file.first("day_number"))
        or is_day_number(file.first("hours_since_start"))
        or month_and_day(file.first("event_time"))
        or any(one.is_number for one in file.candidates("event_time"))
        or file.has("sequence", "days_since")
    )


def month_and_day(column: ColumnEvidence | None) -> bool:
    """Whether a column holds a month and a day without a year: 829 is the 29th of August."""
    if column is None or not column.is_number:
        return False
    smallest, largest, whole, _ = column.numbers
    plain = all(1 <= int(float(word)) % 100 <= 31 for word in column.words if word.replace(".", "").isdigit())
    return whole == 1 and smallest >= 101 and largest <= 1231 and plain and column.distinct > 5


def repeated_bare_key(file: FileEvidence) -> ColumnEvidence | None:
    """A column `id` that repeats, in a file without any user: the shopper, as in the Valued Shoppers data."""
    column = next((one for name, one in file.columns.items() if name.lower() in ("id", "key")), None)
    return column if column is not None and column.distinct < 0.9 * column.filled else None


def label_column(file: FileEvidence) -> ColumnEvidence | None:
    """The column of a file of targets that says who took part: two values, one of which means yes or no."""
    for column in file.candidates("label"):
        words = {word.lower() for word in column.words}
        if (words & YES and len(words - {"-1"}) <= 3) or words == {"0"}:
            return column
    return None


YES = {"1", "1.0", "true", "t", "yes", "y", "是"}
"""Words of a label that mean yes, as the mapping's default knows them, and one in Chinese."""
