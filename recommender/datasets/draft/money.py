"""What was paid for a line: which column holds it, and whether for one unit or for all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence

NEGATIVE = 0.9
"""Share of negative values among those other than 0 that makes a discount one that is written with a minus."""
MOST_UNITS = 100
"""Largest whole number that may count units where no other column does. Chosen by hand."""
NUMBER = "TRY_CAST(replace({}, ',', '.') AS DOUBLE)"
"""SQL of about the number in a text, for comparisons only."""
FEWEST_ORDERS = 3
"""Orders of several lines that must show it before a number counts as the order's. Chosen by hand."""


@dataclass(frozen=True)
class Paid:
    """How the money of a line is found."""

    column: ColumnEvidence | None = None
    quantity: ColumnEvidence | None = None
    per_unit: bool = False
    before_discount: bool = False
    """Whether the discount of the line is still to be taken off."""
    comment: str | None = None
    otherwise: ColumnEvidence | None = None
    """A second column of the amount, filled where the first is not: what was paid back."""


def paid(file: FileEvidence, item: ColumnEvidence | None) -> Paid:
    """The columns of quantity and amount of a file of lines. What all lines of an order share is of none of them."""
    order = file.first("order") if item is not None else None
    numbers = {
        meaning: [one for one in file.candidates(meaning) if one.is_number and not of_order(one, order)]
        for meaning in ("quantity", "amount", "unit_price")
    }
    quantity = next(iter(numbers["quantity"]), None)
    amount = next((one for one in numbers["amount"] if one is not quantity), None)
    price = next((one for one in numbers["unit_price"] if one is not quantity), None)
    if quantity is None and amount is not None and price is not None and _counts_units(amount):
        # Ta-Feng calls the number of pieces AMOUNT, beside SALES_PRICE.
        return Paid(price, amount, comment=f"CHECK: {amount.name} holds small whole numbers, so it counts pieces")
    if amount is not None:
        before = quantity is not None and price is not None and _is_before_discount(file, amount, quantity, price)
        comment = f"CHECK: {amount.name} is before the discount, which is taken off" if before else None
        return Paid(amount, quantity, False, before, comment, _complement(amount, numbers["amount"]))
    if price is None:
        return Paid(None, quantity)
    if quantity is None or _always_one(quantity):
        return Paid(price, quantity)
    if _grows_with(price, quantity, item) is True:
        comment = f"CHECK: {price.name} grows with {quantity.name}, so it is for all units of a line"
        return Paid(price, quantity, comment=comment)
    discounts = [one for one in file.candidates("discount") if one.is_number and not of_order(one, order)]
    has_discount = any("line" in one.name.lower() for one in discounts)
    shown = _grows_with(price, quantity, item) is False
    why = "does not grow with" if shown else "is taken as the price of one unit, times"
    return Paid(price, quantity, True, has_discount, f"CHECK: {price.name} {why} {quantity.name}: times the quantity")


def _complement(amount: ColumnEvidence, others: Sequence[ColumnEvidence]) -> ColumnEvidence | None:
    """A column that has a value only where the amount has none."""
    for other in others:
        if other is amount or other.filled + amount.filled > amount.file.rows:
            continue
        (both,) = amount.file.connection.execute(
            f"SELECT count(*) FROM {amount.file.view} WHERE {amount.text} IS NOT NULL AND {other.text} IS NOT NULL"
        ).fetchone() or (0,)
        if both == 0:
            return other
    return None


def of_order(column: ColumnEvidence, order: ColumnEvidence | None) -> bool:
    """Whether a number is of the order and not of its lines: one value, or a value in one line, in each order."""
    if order is None or order.is_unique or order is column or "line" in column.name.lower():
        return False
    several, same = column.file.connection.execute(
        f"SELECT count(*), count(*) FILTER (different <= 1) FROM (SELECT count(DISTINCT {column.text}) AS different "
        f"FROM {column.file.view} GROUP BY {order.text} "
        f"HAVING count(*) > 1 AND max(abs(coalesce({NUMBER.format(column.text)}, 0))) > 0)"
    ).fetchone() or (0, 0)
    return bool(several >= FEWEST_ORDERS and same == several)


def _is_before_discount(
    file: FileEvidence, amount: ColumnEvidence, quantity: ColumnEvidence, price: ColumnEvidence
) -> bool:
    """Whether an amount is price times quantity also where there is a discount."""
    discount = next((one for one in file.candidates("discount") if one.is_number), None)
    if discount is None:
        return False
    number = NUMBER
    a, q, p, d = (number.format(one.text) for one in (amount, quantity, price, discount))
    (share,) = file.connection.execute(
        f"SELECT avg((abs({a} - {q} * {p}) < 0.011)::INT) FROM {file.sample} WHERE abs({d}) > 0.011 AND {a} > 0"
    ).fetchone() or (None,)
    return share is not None and float(share) > 0.9


def _counts_units(column: ColumnEvidence) -> bool:
    smallest, largest, whole, _ = column.numbers
    return whole == 1 and smallest >= 0 and largest <= MOST_UNITS


def _always_one(column: ColumnEvidence) -> bool:
    smallest, largest, _, _ = column.numbers
    return smallest == largest == 1


def _grows_with(price: ColumnEvidence, quantity: ColumnEvidence, item: ColumnEvidence | None) -> bool | None:
    """Whether a price grows with the number of units of the same item. None where no item shows it."""
    if item is None:
        return None
    number = NUMBER
    rows = price.file.connection.execute(
        f"WITH lines AS (SELECT {item.text} AS item, {number.format(price.text)} AS price, "
        f"{number.format(quantity.text)} AS units FROM {price.file.sample}) "
        "SELECT median(price) FILTER (units > 1) / median(price) FILTER (units = 1) AS growth, "
        "median(units) FILTER (units > 1) AS units FROM lines WHERE price > 0 AND units > 0 GROUP BY item "
        "HAVING growth > 0 AND units > 1"
    ).fetchall()
    if not rows:
        return None
    votes = [abs(math.log(growth / units)) < abs(math.log(growth)) for growth, units in rows]
    return sum(votes) * 2 > len(votes)


def sign(column: ColumnEvidence) -> float | None:
    """The scale of a discount that is written with a minus. None where it needs none."""
    return -1.0 if column.numbers[3] >= NEGATIVE else None
