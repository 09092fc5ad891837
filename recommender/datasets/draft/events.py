"""Drafts the table of events: who, what, when and for how much, from one file or from orders and their lines."""

from collections.abc import Sequence

from recommender.datasets.draft.actions import add_kind
from recommender.datasets.draft.attribution import add_campaign
from recommender.datasets.draft.composed import composed, parts_of
from recommender.datasets.draft.conditions import GUESTS, add_conditions
from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import JOINABLE, Join, joins, overlap
from recommender.datasets.draft.moments import moment_of
from recommender.datasets.draft.payments import add_money
from recommender.datasets.draft.people import user_of
from recommender.datasets.draft.roles import Role
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section, listed
from recommender.datasets.draft.written import finish

FURTHER = ("campaign_id", "store_id", "rating", "text", "query", "dwell_s", "page", "device", "location", "currency")
"""Optional columns that are taken as they stand."""

MOSTLY_FILLED = 0.97
"""Share of filled cells above which a column is no order's own: orders of one line are many, but not all. By hand."""
FEWEST_FIRST_LINES = 2
"""Orders of several lines that must show it. One may be an accident."""


def event_sections(files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> list[Section]:
    """A section for each log, and for the lines of orders with their heads."""
    sections, used = [], set()
    for file in files:
        if roles[file.name] == "lines":
            rows = Rows(file, _ways(file, files, roles))
            used |= {join.one.file.name for join in rows.joins}
            sections.append(_section(rows, files, roles))
    for file in files:
        role = roles[file.name]
        if role == "log" or (role == "orders" and file.name not in used):
            # Rows that have a list of items are left to the section that reads the lists.
            alone = [f"coalesce(len({file.acts.lines}), 0) = 0"] if file.acts is not None and file.has_lists else []
            sections.append(_section(Rows(file, conditions=alone), files, roles))
        if file.acts is not None and (role in ("targets", "participations") or (role == "log" and file.has_lists)):
            sections.append(_section(Rows(file.acts), files, roles))
    return _once(sections)


def _once(sections: list[Section]) -> list[Section]:
    """Leave out purchases of orders that another file has too, such as a report beside orders and lines."""
    kept: list[Section] = []
    for section in sections:
        order = _order_of(section)
        twin = None
        for other in kept:
            theirs = _order_of(other)
            if (
                order is not None
                and theirs is not None
                and order.file.path != theirs.file.path
                and overlap(order, theirs) > JOINABLE
            ):
                twin = other
        if twin is None:
            kept.append(section)
            continue
        names = " and ".join(file.path.name for file in section.files if file not in twin.files)
        twin.comments.append(f"CHECK: {names} has the same orders, and is not read a second time")
    return kept


def _order_of(section: Section) -> ColumnEvidence | None:
    """The column of the order of purchases."""
    if section.constants.get("kind") != "purchase" or "basket_id" not in section.columns:
        return None
    name = section.columns["basket_id"]
    return next((file.columns[name] for file in section.files if name in file.types), None)


def _ways(file: FileEvidence, files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> list[Join]:
    """The joins from lines to their orders."""
    heads = [one for one in files if roles[one.name] in ("orders", "log") and one is not file]
    return joins(file, heads, ("order",))[:1]


def _section(rows: Rows, files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> Section:
    """The section of events of some rows."""
    section = Section("events", [])
    columns: dict[str, ColumnEvidence] = {}
    _fill_down(rows)
    user = user_of(rows, files, section)
    if user is not None:
        columns["user_id"] = user
    moment_of(rows, columns, section, user)
    item = _item(rows)
    if item is not None:
        columns["item_id"] = item
        _fill_items(rows, item, section)
    if item is None:
        parts = parts_of(rows.base, files, roles)
        if parts:
            rows.expressions["item_id"] = composed(rows, parts)
            names = listed(part.name for part in parts)
            section.comments.append(f"CHECK: no column numbers the product; {names} together stand for it")
    add_kind(rows, columns, section, files)
    if item is None and "item_id" not in rows.expressions and section.constants.get("kind") == "purchase":
        section.comments.append("MISSING: item_id: no column says what was bought; items cannot be ranked")
    order = rows.first("order")
    if order is not None and order is not item:
        columns["basket_id"] = order
    event = rows.base.first("event")
    if event is not None and event.is_unique and event.name not in {one.name for one in columns.values()}:
        columns["event_id"] = event
    add_money(rows, columns, section, item)
    for canonical in FURTHER:
        column = rows.first(canonical.removesuffix("_id") if canonical.endswith("_id") else canonical)
        if column is None or column.name in {one.name for one in columns.values()}:
            continue
        if canonical == "campaign_id":
            add_campaign(rows, column, columns, section, files)
        elif canonical not in ("rating", "dwell_s") or column.is_number:
            columns[canonical] = column
    section.columns = {canonical: column.name for canonical, column in columns.items()}
    add_conditions(rows, user, section)
    finish(section, rows, columns)
    return section


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


def _fill_down(rows: Rows) -> None:
    """Find the columns that an export of lines writes only in the first line of each order."""
    file = rows.base
    order = file.first("order")
    if order is None or order.is_unique or file.first("item") is None:
        return
    for column in file.columns.values():
        sparse = column.meanings and "item" not in column.meanings and 0 < column.filled_share < MOSTLY_FILLED
        if sparse and _only_in_first_lines(column, order):
            rows.filled_down[column.name] = order.name


def _only_in_first_lines(column: ColumnEvidence, order: ColumnEvidence) -> bool:
    """Whether a column has values in first lines of orders of several lines, and in no other line."""
    own = f"SELECT {column.text} IS NOT NULL AS filled, _row = min(_row) OVER same_order AS is_first, "
    own += f"count(*) OVER same_order AS lines FROM {column.file.view} WINDOW same_order AS (PARTITION BY {order.text})"
    first, later = column.file.connection.execute(
        f"SELECT count(*) FILTER (is_first), count(*) FILTER (NOT is_first) FROM ({own}) WHERE filled AND lines > 1"
    ).fetchone() or (0, 0)
    return bool(later == 0 and first >= FEWEST_FIRST_LINES)
