"""Which files belong together: columns that hold the same keys, and keys whose names do not say of what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.headers import entity_of, is_bare_key, squashed

JOINABLE = 0.7
"""Share of a column's keys that another file must know for the two to be joined. Guests and old orders are always
missing. Chosen by hand."""
BY_VALUES = 40
"""Rank of a meaning that only values show, after every name with a key."""
MOST_KEYS, SHORTEST_KEY = 10_000, 4
"""Different values, and letters of a key, between which a column is compared with the keys of campaigns. By hand."""
KEYED = ("user", "item", "campaign", "coupon", "order")
"""Entities by which files are joined."""


@dataclass(frozen=True)
class Join:
    """`many` refers to `one`, whose values are unique."""

    many: ColumnEvidence
    one: ColumnEvidence
    optional: bool = False
    """Whether rows without a partner stay."""


def overlap(column: ColumnEvidence, other: ColumnEvidence) -> float:
    """Share of a column's different values that another column has."""
    (share,) = column.file.connection.execute(
        f"SELECT avg((v IN (SELECT {other.text} FROM {other.file.view} WHERE {other.text} IS NOT NULL))::INT) "
        f"FROM (SELECT DISTINCT {column.text} AS v FROM {column.file.view} WHERE {column.text} IS NOT NULL)"
    ).fetchone() or (None,)
    return float(share or 0.0)


def decides(column: ColumnEvidence, other: ColumnEvidence) -> bool:
    """Whether each value of a column has mostly one value of another column of its file."""
    (share,) = column.file.connection.execute(
        f"SELECT avg((n <= 1)::INT) FROM (SELECT count(DISTINCT {other.text}) AS n FROM {column.file.view} "
        f"WHERE {column.text} IS NOT NULL GROUP BY {column.text})"
    ).fetchone() or (None,)
    return share is not None and float(share) > 0.95


def name_bare_keys(files: Sequence[FileEvidence]) -> None:
    """Give keys such as `id` the meaning of the file's name, or of the column whose values they share."""
    for file in files:
        for column in file.columns.values():
            if not is_bare_key(column.name) or not column.filled:
                continue
            entity = entity_of(file.stem)
            if entity is None or entity not in KEYED:
                entity = _shared_with(column, files)
            is_order = entity == "order" and file.lines is not None
            has_own = entity is not None and file.first(entity) is not None
            if entity is not None and not has_own and (column.is_unique or is_order):
                # A key that says it itself is surer: sales_order_item has an item_id of its own.
                column.meanings.setdefault(entity, 5)
    _name_order_numbers(files)
    _name_shoppers(files)


def _name_shoppers(files: Sequence[FileEvidence]) -> None:
    """Take an `id` that repeats, a log's only key, for the shopper, also in files that share its values."""
    for file in files:
        if file.has("user") or not file.has("amount"):
            continue
        column = next((one for name, one in file.columns.items() if is_bare_key(name)), None)
        if column is None or column.is_unique or column.distinct > 0.9 * column.filled:
            continue
        for other in files:
            same = other.columns.get(column.name)
            if same is not None and same is not column and overlap(same, column) > JOINABLE:
                same.meanings.setdefault("user", 30)


def _shared_with(column: ColumnEvidence, files: Sequence[FileEvidence]) -> str | None:
    """The entity of the column in another file that shares the most values."""
    if not column.is_unique:
        return None
    best, most = None, 0.5  # half of the keys: most objects of a shop have been used. By hand.
    for file in files:
        if file is column.file:
            continue
        for entity in KEYED:
            other = file.first(entity)
            share = overlap(other, column) if other is not None and other.distinct > 1 else 0.0
            if share > most:
                best, most = entity, share
    return best


def _name_order_numbers(files: Iterable[FileEvidence]) -> None:
    """Take `Name` for the order where a file of lines has no other order: Shopify writes #1001 there."""
    for file in files:
        column = next((one for one in file.columns.values() if squashed(one.name) == "name"), None)
        is_orders = file.first("item") is not None and file.first("quantity") is not None
        if column is None or not is_orders or file.candidates("order"):
            continue
        if all(word.startswith("#") or word[-1:].isdigit() for word in column.words):
            column.meanings = {"order": 0}


def joins(file: FileEvidence, others: Iterable[FileEvidence], entities: Sequence[str] = KEYED) -> list[Join]:
    """The ways from a file to others that have one row for each of its keys."""
    found = []
    for other in others:
        if other is file:
            continue
        join = _join(file, other, entities)
        if join is not None:
            found.append(join)
    return found


def _join(file: FileEvidence, other: FileEvidence, entities: Sequence[str]) -> Join | None:
    for entity in entities:
        for many in file.candidates(entity):
            # The same name is the surest sign; else any key of the same entity.
            keys = sorted(other.candidates(entity), key=lambda one: squashed(one.name) != squashed(many.name))
            for one in keys:
                if one.is_unique and overlap(many, one) >= JOINABLE:
                    return Join(many, one)
    return None


def name_campaigns(files: Sequence[FileEvidence]) -> None:
    """Take columns that hold the keys of campaigns for campaigns, whatever their names: `$message` of a mail tool."""
    for file in files:
        key = file.first("campaign")
        if key is None or not key.is_unique or file.has("user"):
            continue
        for other in files:
            if other is file or not other.has("user"):
                continue
            for column in other.columns.values():
                is_text = other.types[column.name].startswith("VARCHAR")
                if is_text and "campaign" not in column.meanings and _holds_keys(column, key):
                    column.meanings = {"campaign": BY_VALUES}


def _holds_keys(column: ColumnEvidence, key: ColumnEvidence) -> bool:
    """Whether a column's values are mostly keys, and such as are no accident: `7` may count anything."""
    if not 1 < column.distinct < MOST_KEYS or min(map(len, key.words), default=0) < SHORTEST_KEY:
        return False
    return overlap(column, key) >= 0.5


def clear_line_numbers(files: Iterable[FileEvidence]) -> None:
    """A unique `item_id` beside a `sku` or `product_id` and an order numbers the line: it is no item."""
    for file in files:
        items, order = file.candidates("item"), file.first("order")
        if len(items) < 2 or order is None:
            continue
        for column in items:
            rest = [one for one in items if one is not column and "item" in one.meanings]
            unique = column.is_unique and any(not one.is_unique for one in rest)
            if unique or (rest and _counts_lines(column, order)):
                column.meanings = {"line": 0}


def _counts_lines(column: ColumnEvidence, order: ColumnEvidence) -> bool:
    """Whether a column counts the lines of each order from 1."""
    if order.is_unique or not column.is_number:
        return False
    (share,) = column.file.connection.execute(
        f"SELECT avg((most <= lines)::INT) FROM (SELECT max(TRY_CAST({column.text} AS DOUBLE)) AS most, "
        f"count(*) AS lines FROM {column.file.view} GROUP BY {order.text})"
    ).fetchone() or (None,)
    return share is not None and float(share) > 0.95
