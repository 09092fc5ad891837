"""Drafts the table of events: who, what, when and for how much, from one file or from orders and their lines."""

from collections.abc import Sequence
from dataclasses import replace

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.headers import squashed, table_words
from recommender.datasets.draft.keys import Join, decides, joins
from recommender.datasets.draft.kinds import IGNORE, SENT, TAKEN, code_of, is_cancelled, is_unpaid, kind_of
from recommender.datasets.draft.moments import moment_of
from recommender.datasets.draft.money import of_order, paid, sign
from recommender.datasets.draft.roles import Role, kind_column, repeated_bare_key
from recommender.datasets.draft.rows import Rows, sql_name
from recommender.datasets.draft.sections import Section, listed
from recommender.datasets.reading.raw import literal

FURTHER = ("campaign_id", "store_id", "rating", "text", "query", "dwell_s", "page", "device", "location", "currency")
"""Optional columns that are taken as they stand."""
GUESTS = 0.001
"""Share of rows without a user from which on the draft leaves them out by a condition. By hand: fewer go to
quarantine."""
ONE_PERSON = ("0", "-1", "guest", "anonymous", "unknown", "null", "none", "游客")
"""Values that stand for everyone who is not known."""


def event_sections(files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> list[Section]:
    """A section for each log, and for the lines of orders with their heads."""
    sections, used = [], set()
    for file in files:
        if roles[file.name] == "lines":
            rows = Rows(file, _ways(file, files, roles))
            used |= {join.one.file.name for join in rows.joins}
            sections.append(_section(rows, files))
    for file in files:
        if roles[file.name] == "log" or (roles[file.name] == "orders" and file.name not in used):
            sections.append(_section(Rows(file), files))
    return sections


def _ways(file: FileEvidence, files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> list[Join]:
    """The joins from lines to their orders."""
    heads = [one for one in files if roles[one.name] in ("orders", "log") and one is not file]
    return joins(file, heads, ("order",))[:1]


def _section(rows: Rows, files: Sequence[FileEvidence]) -> Section:
    """The section of events of some rows."""
    section = Section("events", [])
    columns: dict[str, ColumnEvidence] = {}
    _fill_down(rows)
    user = _user(rows, files, section)
    if user is not None:
        columns["user_id"] = user
    moment_of(rows, columns, section, user)
    item = _item(rows)
    if item is not None:
        columns["item_id"] = item
        _fill_items(rows, item, section)
    _kind(rows, columns, section)
    order = _first(rows, "order")
    if order is not None and order is not item:
        columns["basket_id"] = order
    event = rows.base.first("event")
    if event is not None and event.is_unique and event.name not in {one.name for one in columns.values()}:
        columns["event_id"] = event
    _money(rows, columns, section, item)
    for canonical in FURTHER:
        column = _first(rows, canonical.removesuffix("_id") if canonical.endswith("_id") else canonical)
        if column is None or column.name in {one.name for one in columns.values()}:
            continue
        if canonical not in ("rating", "dwell_s") or column.is_number:
            columns[canonical] = column
    section.columns = {canonical: column.name for canonical, column in columns.items()}
    _conditions(rows, user, section)
    finish(section, rows, columns)
    return section


def finish(section: Section, rows: Rows, columns: dict[str, ColumnEvidence], *, distinct: bool = False) -> None:
    """Write the columns into a section: as a file's own, or as a query where that is needed."""
    rows.base.taken = True
    section.columns = {canonical: column.name for canonical, column in columns.items()}
    section.columns |= {canonical: canonical for canonical in rows.expressions}
    section.files = rows.files
    for column in columns.values():
        column.file.used.add(column.name)
    for file in rows.files:
        section.comments += (
            [one for one in file.comments if one not in section.comments] if not rows.needs_query else []
        )
    if rows.needs_query or distinct:
        section.query = rows.query(columns, distinct=distinct)
    elif rows.conditions:
        section.where = " AND ".join(rows.conditions)
    for canonical in ("amount", "quantity", "price", "discount", "coupon_discount"):
        if canonical not in columns:
            continue
        found = columns[canonical].seen.numbers.found
        if found.get("decimal") == "," and section.decimal is None:
            section.decimal = ","
        question = columns[canonical].seen.numbers.question
        if question and "decimal" in question:
            section.comments.append(f"DECIDE: {columns[canonical].name}: {question}")


def _first(rows: Rows, meaning: str) -> ColumnEvidence | None:
    """The likeliest column of a meaning: of the base, else of what is joined."""
    return next((column for file in rows.files if (column := file.first(meaning)) is not None), None)


def _user(rows: Rows, files: Sequence[FileEvidence], section: Section) -> ColumnEvidence | None:
    """The column of the person, joined from a file of customers where an order's number is new each time."""
    found = [column for file in rows.files for column in file.candidates("user")]
    filled = [column for column in found if column.filled_share >= 0.5]
    if filled and filled[0] is not found[0]:
        section.comments.append(
            f"CHECK: {found[0].name} is empty in {1 - found[0].filled_share:.0%} of the rows; {filled[0].name} is taken"
        )
    emails = [column for file in rows.files for column in file.candidates("email")]
    user = next(iter([*filled, *emails, *found]), None)
    if user is None:
        user = repeated_bare_key(rows.base)
        if user is not None:
            section.comments.append(f"CHECK: no column names the user; {user.name} repeats, and is taken for it")
        return user
    person = _person(user, files)
    if person is not None:
        rows.joins.append(person[0])
        section.comments.append(f"CHECK: {user.name} is new in every order; {person[1].name} is the person")
        return person[1]
    return user


def _person(user: ColumnEvidence, files: Sequence[FileEvidence]) -> tuple[Join, ColumnEvidence] | None:
    """Where a user's column is unique in a file of orders: the join to a file that knows who it is."""
    if not user.is_unique:
        return None
    for join in joins(user.file, files, ("user",)):
        if join.many is not user:
            continue
        for other in join.one.file.candidates("user"):
            if other is not join.one and decides(join.one, other) and other.distinct < join.one.distinct:
                return join, other
    return None


def _item(rows: Rows) -> ColumnEvidence | None:
    items = [column for file in rows.files for column in file.candidates("item")]
    filled = [column for column in items if column.filled_share >= 0.5]
    return next(iter([*filled, *items]), None)


def _fill_items(rows: Rows, item: ColumnEvidence, section: Section) -> None:
    """Take the name of a line for an item without a number, such as a gift card."""
    file = item.file
    name = next((one for one in file.candidates("name") if one is not item and "line" in one.name.lower()), None)
    if name is None or item.filled_share > 1 - GUESTS:
        return
    (alone,) = file.connection.execute(
        f"SELECT count(*) FROM {file.view} WHERE {item.text} IS NULL AND {name.text} IS NOT NULL"
    ).fetchone() or (0,)
    if alone:
        rows.expressions["item_id"] = f"coalesce(nullif({rows.name(item)}, ''), {rows.name(name)})"
        section.comments.append(f"CHECK: {alone:,} lines have no {item.name}; their {name.name} is taken")


def _kind(rows: Rows, columns: dict[str, ColumnEvidence], section: Section) -> None:
    """The kind: the file's own words, or a constant."""
    column = kind_column(rows.base)
    if column is None:
        section.constants["kind"], certain = _constant_kind(rows)
        if not certain:
            section.comments.append('DECIDE: kind: no column says what was done; "purchase", "view", …?')
        return
    columns["kind"] = column
    code = code_of(column.words)
    if code is not None:
        says, meanings = code
        section.kinds = {word: meanings[word.removesuffix(".0")] for word in column.words}
        section.comments.append(f"CHECK: the numbers in {column.name} are read as {says}")
        return
    meant = {word: kind_of(word) for word in column.words}
    _prefer_lines(meant)
    _leave_out_pages(rows.base, column, meant, section)
    section.kinds = {
        word: IGNORE if kind in (None, SENT, TAKEN) else str(kind) for word, kind in meant.items() if word != kind
    }
    unknown = [f"{word} ({column.words[word]:,} rows)" for word, kind in meant.items() if kind is None]
    if unknown:
        section.comments.append(f"CHECK: words that are not known, and so left out: {', '.join(unknown)}")
    left_out = [word for word, kind in meant.items() if kind == IGNORE]
    if left_out:
        section.comments.append(f"CHECK: left out on purpose: {', '.join(left_out)}")
    if "purchase" not in meant.values():
        section.comments.append("CHECK: no word means a purchase, without which campaigns cannot be ranked")


def _prefer_lines(meant: dict[str, str | None]) -> None:
    """Where orders and their lines both are events, such as Placed Order and Ordered Product, count the lines."""
    lines = [word for word, kind in meant.items() if kind == "purchase" and "product" in word.lower()]
    if lines:
        for word, kind in meant.items():
            if kind == "purchase" and word not in lines:
                meant[word] = IGNORE


def _leave_out_pages(
    file: FileEvidence, column: ColumnEvidence, meant: dict[str, str | None], section: Section
) -> None:
    """Leave out views and clicks that never name an item, beside others that do: page views."""
    item = file.first("item")
    if item is None:
        return
    rows = file.connection.execute(
        f"SELECT {column.text}, count({item.text}) FROM {file.view} WHERE {column.text} IS NOT NULL GROUP BY 1"
    ).fetchall()
    pages = [word for word, named in rows if named == 0 and meant.get(word) in ("view", "click")]
    others = [word for word, named in rows if named and meant.get(word) in ("view", "click")]
    if pages and others:
        for word in pages:
            meant[word] = IGNORE
        section.comments.append(f"CHECK: {', '.join(sorted(pages))} never name an item")


def _constant_kind(rows: Rows) -> tuple[str, bool]:
    """The kind of a log without a column for it, and whether it is certain."""
    file = rows.base
    if any(_first(rows, one) is not None for one in ("order", "amount", "unit_price", "order_total", "quantity")):
        return "purchase", True
    for kind, words in (("view", ("view", "visit", "page")), ("click", ("click",)), ("search", ("search",))):
        if any(word in file.path.stem.lower() for word in words):
            return kind, False
    if file.has("rating"):
        return "review", False
    return "purchase", table_words(file.path.stem, "events") > 5


def _money(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, item: ColumnEvidence | None) -> None:
    """Quantity, amount and discounts."""
    found = paid(rows.base, item if item is not None and item.file is rows.base else None)
    if found.quantity is not None:
        columns["quantity"] = found.quantity
    if found.column is not None:
        columns["amount"] = found.column
        if found.per_unit and found.quantity is not None:
            section.per_unit.append("amount")
    elif item is None:
        total = _first(rows, "order_total")
        if total is not None and total.is_number:
            columns["amount"] = total
    section.comments += [found.comment] if found.comment else []
    if found.otherwise is not None and found.column is not None:
        rows.expressions["amount"] = f"coalesce({rows.name(found.column)}, {rows.name(found.otherwise)})"
    order = rows.base.first("order") if item is not None else None
    for canonical in ("discount", "coupon_discount"):
        taken = {one.name for one in columns.values()}
        numbers = [one for one in rows.base.candidates(canonical) if one.is_number and one.name not in taken]
        numbers = [one for one in numbers if not of_order(one, order)]
        if not numbers:
            continue
        columns[canonical] = numbers[0]
        scale = sign(numbers[0])
        if scale is not None:
            section.scale[canonical] = scale
        if len(numbers) > 1 and canonical == "coupon_discount":
            rows.expressions[canonical] = " + ".join(NUMBER.format(rows.name(one), 0) for one in numbers)
            section.comments.append(f"CHECK: {listed(one.name for one in numbers)} are added up")
    if found.before_discount and "discount" in columns:
        _take_off_discount(rows, columns, section, per_unit=found.per_unit)
    _add_paid_coupons(rows, columns, section)


NUMBER = "coalesce(TRY_CAST({} AS DECIMAL(18, 4)), {})"
"""SQL of a number in a text. Four decimals, so that cents are exact."""


def _take_off_discount(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, *, per_unit: bool) -> None:
    """What was paid is the price, times the quantity if it is for one unit, less the discount of the line."""
    price, off = NUMBER.format(rows.name(columns["amount"]), 0), NUMBER.format(rows.name(columns["discount"]), 0)
    if per_unit:
        price = f"{price} * {NUMBER.format(rows.name(columns['quantity']), 1)}"
        section.per_unit.remove("amount")
    rows.expressions["amount"] = f"{price} - abs({off})"
    section.comments.append(f"CHECK: {columns['discount'].name} is taken off the price of the line")


def _add_paid_coupons(rows: Rows, columns: dict[str, ColumnEvidence], section: Section) -> None:
    """In the data of dunnhumby `sales_value` is what the shop received, with what coupons of makers paid."""
    coupon, amount = columns.get("coupon_discount"), columns.get("amount")
    if coupon is None or amount is None or section.scale.get("coupon_discount") != -1:
        return
    if squashed(amount.name) == "salesvalue" and "amount" not in rows.expressions:
        value, off = NUMBER.format(rows.name(amount), 0), NUMBER.format(rows.name(coupon), 0)
        rows.expressions["amount"] = f"greatest({value} + {off}, 0)"
        section.comments.append(f"CHECK: {amount.name} is what the shop received; {coupon.name} is taken off")


def _fill_down(rows: Rows) -> None:
    """Find the columns that an export of lines writes only in the first line of each order."""
    file = rows.base
    order = file.first("order")
    if order is None or order.is_unique or file.first("item") is None:
        return
    share = order.distinct / max(1, order.filled)
    for column in file.columns.values():
        if column.meanings and "item" not in column.meanings and 0 < column.filled_share <= share * 1.05 < 0.97:
            (most,) = file.connection.execute(
                f"SELECT max(n) FROM (SELECT count({column.text}) AS n FROM {file.view} GROUP BY {order.text})"
            ).fetchone() or (0,)
            if most == 1 and column.filled_share > 0.5 * share:
                rows.filled_down[column.name] = order.name
            elif most == 1 and set(column.meanings) & {"status", "cancelled_at"}:
                rows.filled_down[column.name] = order.name


def _conditions(rows: Rows, user: ColumnEvidence | None, section: Section) -> None:
    """Leave out orders that came to nothing, and rows of nobody."""
    for file in rows.files:
        for column in file.candidates("status"):
            _status(rows, column, section)
        for column in file.candidates("cancelled_at"):
            rows.conditions.append(_is_blank(rows, column))
            section.comments.append(f"CHECK: rows with a value in {column.name} are left out")
        for column in file.candidates("parent"):
            if file is rows.base and column.filled_share < 0.9:
                rows.conditions.append(_is_blank(rows, column))
                section.comments.append(f"CHECK: lines with a {column.name} are parts of another line; left out")
    _guests(rows, user, section)
    quantity = rows.base.columns.get(section.columns.get("quantity", ""))
    if quantity is not None and quantity.numbers[0] == 0 and quantity.is_number:
        name = rows.name(quantity)
        rows.conditions.append(f"coalesce(TRY_CAST({name} AS DOUBLE), 1) <> 0")
        section.comments.append(f"CHECK: lines with 0 in {quantity.name} are left out")


def _status(rows: Rows, column: ColumnEvidence, section: Section) -> None:
    words = column.words
    cancelled = [word for word in words if is_cancelled(word) or is_unpaid(word)]
    if not cancelled or len(words) > 50:
        return
    rows.conditions.append(f"{_text(rows, column)} NOT IN ({', '.join(map(literal, cancelled))})")
    kept = [word for word in words if word not in cancelled]
    section.comments.append(f"CHECK: {column.name}: {', '.join(cancelled)} are left out; kept: {', '.join(kept)}")


def _text(rows: Rows, column: ColumnEvidence) -> str:
    """SQL of a column as a text, empty where it has no value."""
    name = rows.name(column)
    is_text = column.file.types[column.name].startswith("VARCHAR")
    return f"coalesce({name}, '')" if is_text else f"coalesce({name}::VARCHAR, '')"


def _is_blank(rows: Rows, column: ColumnEvidence, further: Sequence[str] = (), *, negated: bool = False) -> str:
    """SQL of whether a column has no value: it is missing, empty, or a word such as NULL."""
    words = list(dict.fromkeys(["", *column.blanks, *further]))
    if len(words) == 1:
        return f"{_text(rows, column)} {'<>' if negated else '='} ''"
    return f"{_text(rows, column)} {'NOT IN' if negated else 'IN'} ({', '.join(map(literal, words))})"


def _guests(rows: Rows, user: ColumnEvidence | None, section: Section) -> None:
    if user is None:
        return
    nobody = [word for word, n in user.words.items() if word.lower() in ONE_PERSON and n > 0.05 * user.file.rows]
    if 1 - user.filled_share > GUESTS or nobody:
        rows.conditions.append(_is_blank(rows, user, nobody, negated=True))
        section.comments.append(f"CHECK: rows without {user.name} are left out: guests")


__all__ = ["event_sections", "finish", "replace", "sql_name"]
