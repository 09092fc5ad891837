"""Drafts campaigns, what they promote, who was targeted, and who took part."""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import JOINABLE, Join, overlap
from recommender.datasets.draft.kinds import campaign_kind_of
from recommender.datasets.draft.moments import FIRST_DAY, add_format, timestamp_sql
from recommender.datasets.draft.pairs import lacks_label, pair_section, taken_section
from recommender.datasets.draft.roles import (
    Role,
    is_day_number,
    label_column,
    time_column,
    window_column,
)
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section
from recommender.datasets.draft.written import finish
from recommender.datasets.reading.raw import literal

WINDOW_DAYS = 7
"""Days that a mailing counts as live where no end is stated: most answers come within a week. Chosen by hand."""


def campaign_sections(files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> list[Section]:
    """The sections of all tables about campaigns."""
    couples = ("campaigns", "campaign_items", "coupon_items")
    has_coupons = any(file.has("coupon") for file in files if roles[file.name] in couples)
    sections = [_campaigns(file, has_coupons=has_coupons) for file in files if roles[file.name] == "campaigns"]
    sections += [_campaign_items(file) for file in files if roles[file.name] == "campaign_items"]
    sections += [
        _campaign_items(file)
        for file in files
        if roles[file.name] == "campaigns" and file.has("campaign") and list_mark(file.first("item")) is not None
    ]
    for file in files:
        if roles[file.name] == "coupon_items":
            section = _coupon_items(file, files)
            sections += [section] if section is not None else []
    targets = [file for file in files if roles[file.name] == "targets"]
    labelled = [file for file in targets if label_column(file) is not None]
    sections += [pair_section(file, "targets") for file in targets if not lacks_label(file, labelled)]
    sections += [taken for file in targets if (taken := taken_section(file)) is not None]
    sections += [pair_section(file, "participations") for file in files if roles[file.name] == "participations"]
    return sections


def _campaigns(file: FileEvidence, *, has_coupons: bool) -> Section:
    section = Section("campaigns", [file])
    rows = Rows(file)
    columns: dict[str, ColumnEvidence] = {}
    keys = [column for one in ("campaign", "coupon", "name") for column in file.candidates(one)]
    key = next((column for column in keys if column.is_unique), next(iter(keys), None))
    if key is not None:
        columns["campaign_id"] = key
    _window(rows, columns, section)
    _kind(file, columns, section, has_coupons=has_coupons)
    for canonical in ("name", "campaign_type", "description"):
        column = next((one for one in file.candidates(canonical) if one not in columns.values()), None)
        if column is not None and column is not key:
            columns[canonical] = column
    finish(section, rows, columns)
    return section


def _window(rows: Rows, columns: dict[str, ColumnEvidence], section: Section) -> None:
    """Start and end: columns of their own, or the moment of sending and some days."""
    file = rows.base
    start = window_column(file, "starts_at") or time_column(file, "targeted_at") or time_column(file)
    end = window_column(file, "ends_at")
    for canonical, column in (("starts_at", start), ("ends_at", end)):
        if column is None:
            continue
        columns[canonical] = column
        if is_day_number(column):
            section.formats[canonical] = "day"
            section.first_day = FIRST_DAY
            if canonical == "starts_at":
                section.comments.append(f"DECIDE: {column.name} counts days; first_day is the date of day 1")
        else:
            add_format(section, canonical, column)
    if end is None and start is not None:
        columns["ends_at"] = start
        time = timestamp_sql(rows.name(start), section.formats.pop("starts_at", None))
        duration = next((one for one in file.candidates("duration_days") if one.is_number), None)
        days = f"CAST({rows.name(duration)} AS INTEGER)" if duration is not None else str(WINDOW_DAYS)
        rows.expressions |= {"starts_at": time, "ends_at": f"{time} + to_days({days})"}
        section.comments.append(
            f"DECIDE: no column says when a campaign ends; it is taken as {days} days after its start"
        )


def _kind(file: FileEvidence, columns: dict[str, ColumnEvidence], section: Section, *, has_coupons: bool) -> None:
    for column in [*file.candidates("kind"), *file.candidates("campaign_type")]:
        meant = {word: campaign_kind_of(word) for word in column.words}
        if meant and len(meant) <= 20 and all(meant.values()):
            columns["kind"] = column
            section.kinds = {word: str(kind) for word, kind in meant.items() if word != kind}
            section.comments += [f"CHECK: kinds of {column.name}"] if section.kinds else []
            return
    kind = "coupon" if has_coupons or "coupon" in file.stem.lower() else "promotion"
    section.constants["kind"] = kind
    section.comments.append("DECIDE: kind: promotion, coupon, member_event or launch")


def _campaign_items(file: FileEvidence) -> Section:
    section = Section("campaign_items", [file])
    rows, columns = Rows(file), _keys(file, "campaign", "item", "coupon")
    if unnested_items(rows, columns, section):
        finish(section, rows, {name: column for name, column in columns.items() if name != "item_id"})
        return section
    repeats = file.connection.execute(
        f"SELECT count(*) - count(DISTINCT ({', '.join(one.text for one in columns.values())})) FROM {file.view}"
    ).fetchone()
    finish(section, rows, columns, distinct=bool(repeats and repeats[0]))
    return section


def _coupon_items(file: FileEvidence, files: Sequence[FileEvidence]) -> Section | None:
    """Items of coupons, with the campaigns of a file that has both."""
    coupon = file.first("coupon")
    assert coupon is not None
    # The pairs with labels first: those without are the secret part of a competition.
    for other in sorted(files, key=lambda one: label_column(one) is None):
        bridge, campaign = other.first("coupon"), other.first("campaign")
        if other is file or bridge is None or campaign is None or overlap(coupon, bridge) < JOINABLE / 2:
            continue
        section = Section("campaign_items", [])
        rows = Rows(other, [Join(bridge, coupon)])
        columns = {"campaign_id": campaign, "coupon_id": bridge, **_keys(file, "item")}
        finish(section, rows, columns, distinct=True)
        file.taken = True
        section.comments.append(f"CHECK: {other.path.name} says which coupon belongs to which campaign")
        return section
    return None


def unnested_items(rows: Rows, columns: dict[str, ColumnEvidence], section: Section) -> bool:
    """Take a list of items in one cell apart: `P00|P04|P08`."""
    mark = list_mark(columns.get("item_id"))
    if mark is None:
        return False
    name = rows.name(columns["item_id"])
    rows.expressions["item_id"] = f"trim(unnest(string_split({name}, {literal(mark)})))"
    section.comments.append(f"CHECK: {columns['item_id'].name} lists several items in a cell, with {mark} between them")
    return True


def list_mark(column: ColumnEvidence | None) -> str | None:
    """The mark between the items in the cells of a column. None where a cell is one item."""
    if column is None or not column.file.types[column.name].startswith("VARCHAR"):
        return None
    cells = list(column.words)
    return next((mark for mark in "|;, " if cells and sum(mark in cell for cell in cells) > len(cells) / 2), None)


def _keys(file: FileEvidence, *entities: str) -> dict[str, ColumnEvidence]:
    found = {f"{entity}_id": file.first(entity) for entity in entities}
    return {canonical: column for canonical, column in found.items() if column is not None}
