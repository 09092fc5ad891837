"""Drafts campaigns, what they promote, who was targeted, and who took part."""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.headers import table_words
from recommender.datasets.draft.keys import JOINABLE, Join, overlap
from recommender.datasets.draft.kinds import campaign_kind_of
from recommender.datasets.draft.moments import FIRST_DAY, add_format
from recommender.datasets.draft.roles import (
    Role,
    is_day_number,
    kind_column,
    label_column,
    sends,
    time_column,
    window_column,
)
from recommender.datasets.draft.rows import Rows, sql_name
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
    for file in files:
        if roles[file.name] == "coupon_items":
            section = _coupon_items(file, files)
            sections += [section] if section is not None else []
    targets = [file for file in files if roles[file.name] == "targets"]
    labelled = [file for file in targets if label_column(file) is not None]
    sections += [_pairs(file, "targets", files) for file in targets if not _lacks_label(file, labelled)]
    sections += [_pairs(file, "participations", files) for file in files if roles[file.name] == "participations"]
    for file in files:
        if roles[file.name] == "log":
            sections += _of_log(file)
    return sections


def _lacks_label(file: FileEvidence, labelled: Sequence[FileEvidence]) -> bool:
    """Whether a file is another one without its label: the part of a competition whose outcomes are kept secret."""
    keys = {column.name for one in ("user", "campaign", "store") if (column := file.first(one)) is not None}
    return any(one is not file and keys <= set(one.types) for one in labelled) and file not in labelled


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
        time = f"CAST({rows.name(start)} AS TIMESTAMP)"
        found = section.formats.pop("starts_at", None)
        if found is not None:
            time = f"strptime({rows.name(start)}, {literal(found)})"
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
    kind = "coupon" if has_coupons or "coupon" in file.path.stem.lower() else "promotion"
    section.constants["kind"] = kind
    section.comments.append("DECIDE: kind: promotion, coupon, member_event or launch")


def _campaign_items(file: FileEvidence) -> Section:
    section = Section("campaign_items", [file])
    rows, columns = Rows(file), _keys(file, "campaign", "item", "coupon")
    repeats = file.connection.execute(
        f"SELECT count(*) - count(DISTINCT ({', '.join(one.text for one in columns.values())})) FROM {file.view}"
    ).fetchone()
    finish(section, rows, columns, distinct=bool(repeats and repeats[0]))
    return section


def _coupon_items(file: FileEvidence, files: Sequence[FileEvidence]) -> Section | None:
    """Items of coupons, with the campaigns of a file that has both."""
    coupon = file.first("coupon")
    assert coupon is not None
    for other in files:
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


def _keys(file: FileEvidence, *entities: str) -> dict[str, ColumnEvidence]:
    found = {f"{entity}_id": file.first(entity) for entity in entities}
    return {canonical: column for canonical, column in found.items() if column is not None}


def _pairs(file: FileEvidence, table: str, files: Sequence[FileEvidence]) -> Section:
    """Users with campaigns: targets, with a label where a column says who took part, or participations."""
    section = Section(table, [file])
    columns = _keys(file, "campaign", "user")
    store = file.first("store")
    if "campaign_id" not in columns and (coupon := file.first("coupon")) is not None:
        columns["campaign_id"] = coupon
    elif "campaign_id" not in columns and store is not None:
        columns["campaign_id"] = store
        section.comments.append(f"DECIDE: no column names a campaign; {store.name} is taken for it")
    if "user_id" not in columns and (email := file.first("email")) is not None:
        columns["user_id"] = email
    label = label_column(file) if table == "targets" else None
    when = "targeted_at" if table == "targets" else "participated_at"
    moment = time_column(file, when) or time_column(file)
    if moment is None and table == "participations" and is_day_number(file.first("day_number")):
        moment = file.first("day_number")
        section.formats[when] = "day"
        section.first_day = FIRST_DAY
    if moment is not None and (moment.filled_share > 0.9 or table == "participations"):
        columns[when] = moment
        if when not in section.formats:
            add_format(section, when, moment)
    taken_at = time_column(file, "participated_at")
    if label is not None:
        section.label = label.name
        words = [word for word in label.words if word.lower() in ("是",)]
        section.label_values = words
        section.comments.append(f"CHECK: {label.name} says who took part ({', '.join(list(label.words)[:5])})")
        label.file.used.add(label.name)
        if taken_at is not None and taken_at is not moment:
            columns["participated_at"] = taken_at
    if (label is not None or table == "participations") and (coupon := file.first("coupon")) is not None:
        columns["coupon_id"] = coupon
    propensity = file.first("propensity")
    if table == "targets" and propensity is not None and propensity.is_number:
        columns["propensity"] = propensity
    if table == "participations" and when not in columns:
        section.comments.append("MISSING: participated_at: no column says when; add it, or leave the table out")
    rows = Rows(file)
    if table == "targets" and file.acts is not None:
        _without_bounces(rows, file.acts, section)
    finish(section, rows, columns)
    return section


def _without_bounces(rows: Rows, acts: FileEvidence, section: Section) -> None:
    """Leave out those whom a message did not reach, as the list of their acts says."""
    kind = kind_column(acts)
    bounced = [word for word in kind.words if "bounce" in word.lower()] if kind is not None else []
    if kind is None or not bounced:
        return
    words, field = ", ".join(map(literal, bounced)), sql_name(kind.name.rsplit(".", 1)[1])
    # An empty list is of someone who did nothing. No list at all counts as one.
    rows.conditions.append(f"coalesce(len(list_filter({acts.lines}, lambda act: act.{field} IN ({words}))), 0) = 0")
    section.comments.append(f"CHECK: those with {', '.join(bounced)} in {kind.name} were not reached")


def _of_log(file: FileEvidence) -> list[Section]:
    """Targets and participations among the events of a log, such as emails received and offers completed."""
    kind = kind_column(file)
    sections = []
    for table, when, words in zip(
        ("targets", "participations"), ("targeted_at", "participated_at"), sends(file), strict=True
    ):
        if not words or kind is None:
            continue
        section = Section(table, [file])
        rows = Rows(file)
        columns = _keys(file, "campaign", "user")
        moment = time_column(file)
        if moment is None:
            continue
        columns[when] = moment
        add_format(section, when, moment)
        rows.conditions.append(f"{rows.name(kind)} IN ({', '.join(map(literal, words))})")
        section.comments.append(f"CHECK: {', '.join(words)} in {kind.name} are {table}")
        finish(section, rows, columns)
        sections.append(section)
    return sections


def fits_campaigns(file: FileEvidence) -> bool:
    """Whether a file's name is that of campaigns."""
    return table_words(file.path.stem, "campaigns") > 0
