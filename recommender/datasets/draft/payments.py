"""Drafts quantity, amount and discounts of events."""

from recommender.datasets.draft.evidence import ColumnEvidence
from recommender.datasets.draft.headers import is_cents, squashed
from recommender.datasets.draft.money import of_order, paid, sign
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section, listed
from recommender.datasets.reading.raw import quoted


def add_money(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, item: ColumnEvidence | None) -> None:
    """Quantity, amount and discounts."""
    found = paid(rows.base, item if item is not None and item.file is rows.base else None)
    if found.quantity is not None:
        columns["quantity"] = found.quantity
    if found.column is not None:
        columns["amount"] = found.column
        if found.per_unit and found.quantity is not None:
            section.per_unit.append("amount")
    elif section.constants.get("kind") == "return" and (refund := rows.base.first("refund")) is not None:
        columns["amount"] = refund
    elif item is None:
        total = rows.first("order_total")
        if total is not None and total.is_number:
            columns["amount"] = total
    section.comments += [found.comment] if found.comment else []
    _scale_cents(columns, section)
    if found.otherwise is not None and found.column is not None:
        rows.expressions["amount"] = f"coalesce({rows.name(found.column)}, {rows.name(found.otherwise)})"
    _add_discounts(rows, columns, section, item)
    if found.before_discount and "discount" in columns:
        _take_off_discount(rows, columns, section, per_unit=found.per_unit)
    _add_paid_coupons(rows, columns, section)


def _add_discounts(
    rows: Rows, columns: dict[str, ColumnEvidence], section: Section, item: ColumnEvidence | None
) -> None:
    """Discounts of lines, with a plus. One that stands once in each order is named, and not spread over the lines."""
    order = rows.base.first("order") if item is not None else None
    for canonical in ("discount", "coupon_discount"):
        taken = {one.name for one in columns.values()}
        numbers = [one for one in rows.base.candidates(canonical) if one.is_number and one.name not in taken]
        of_orders = [one for one in numbers if of_order(one, order) or one.name in rows.filled_down]
        numbers = [one for one in numbers if one not in of_orders]
        if of_orders and any(one.numbers[1] > 0 for one in of_orders):
            names = listed(one.name for one in of_orders)
            section.comments.append(f"CHECK: {names} is of a whole order, and not taken off its lines")
        if not numbers:
            continue
        columns[canonical] = numbers[0]
        scale = sign(numbers[0])
        if scale is not None:
            section.scale[canonical] = scale
        if len(numbers) > 1 and canonical == "coupon_discount" and all(map(_can_be_computed, numbers)):
            rows.expressions[canonical] = " + ".join(f"coalesce({_number(rows, one)}, 0)" for one in numbers)
            section.comments.append(f"CHECK: {listed(one.name for one in numbers)} are added up")


def _scale_cents(columns: dict[str, ColumnEvidence], section: Section) -> None:
    """Divide amounts that are in hundredths by name."""
    column = columns.get("amount")
    if column is not None and is_cents(column.name):
        section.scale["amount"] = 0.01
        section.comments.append(f"CHECK: {column.name} is in cents; amount is divided by 100")


def _can_be_computed(column: ColumnEvidence) -> bool:
    """Whether SQL reads the numbers of a column: they have no marks of currency or thousands, and one decimal mark."""
    number = _cast(quoted(column.name), column)
    (unread,) = column.file.connection.execute(
        f"SELECT count(*) FROM {column.file.sample} WHERE {number} IS NULL AND {column.text} IS NOT NULL"
    ).fetchone() or (1,)
    return bool(unread == 0)


def _cast(sql: str, column: ColumnEvidence) -> str:
    comma = column.seen.numbers.found.get("decimal") == ","
    text = f"replace(replace({sql}, '.', ''), ',', '.')" if comma else sql
    return f"TRY_CAST({text} AS DECIMAL(18, 4))"  # four decimals, so that cents are exact


def _number(rows: Rows, column: ColumnEvidence) -> str:
    """SQL of the number in a column. NULL where it has none."""
    return _cast(rows.name(column), column)


def _take_off_discount(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, *, per_unit: bool) -> None:
    """What was paid is the price, times the quantity if it is for one unit, less the discount of the line."""
    needed = [columns[one] for one in ("amount", "discount", *(["quantity"] if per_unit else []))]
    if not all(map(_can_be_computed, needed)):
        section.comments.append(f"DECIDE: {columns['discount'].name} is still to be taken off {columns['amount'].name}")
        return
    price, off = _number(rows, columns["amount"]), f"coalesce({_number(rows, columns['discount'])}, 0)"
    if per_unit:
        price = f"{price} * coalesce({_number(rows, columns['quantity'])}, 1)"
        section.per_unit.remove("amount")
    rows.expressions["amount"] = f"{price} - abs({off})"
    section.comments.append(f"CHECK: {columns['discount'].name} is taken off the price of the line")


def _add_paid_coupons(rows: Rows, columns: dict[str, ColumnEvidence], section: Section) -> None:
    """In the data of dunnhumby `sales_value` is what the shop received, with what coupons of makers paid."""
    coupon, amount = columns.get("coupon_discount"), columns.get("amount")
    if coupon is None or amount is None or section.scale.get("coupon_discount") != -1:
        return
    if squashed(amount.name) == "salesvalue" and "amount" not in rows.expressions and _can_be_computed(amount):
        value, off = _number(rows, amount), f"coalesce({_number(rows, coupon)}, 0)"
        rows.expressions["amount"] = f"greatest({value} + {off}, 0)"
        section.comments.append(f"CHECK: {amount.name} is what the shop received; {coupon.name} is taken off")
