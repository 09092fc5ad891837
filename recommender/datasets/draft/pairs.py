"""Drafts who was targeted by a campaign and who took part: pairs of users and campaigns."""

import re
from collections.abc import Sequence

from recommender.datasets.draft.conditions import is_blank
from recommender.datasets.draft.evidence import MOSTLY, ColumnEvidence, FileEvidence
from recommender.datasets.draft.headers import squashed
from recommender.datasets.draft.moments import FIRST_DAY, add_format
from recommender.datasets.draft.roles import is_day_number, kind_column, label_column, time_column
from recommender.datasets.draft.rows import Rows, sql_name
from recommender.datasets.draft.sections import Section
from recommender.datasets.draft.written import finish
from recommender.datasets.reading.raw import literal

MOST_ARMS = 10
"""Different values up to which a column may name the arms of an experiment."""
CONTROL = re.compile(r"control\w*|holdout|holdback|kontroll\w*|placebo|untreated|notreatment|对照组?|controle|temoin")
"""Words of an arm that was not treated."""
WHEN = {"targets": "targeted_at", "participations": "participated_at"}
"""Table -> the column of its time."""


def pair_section(file: FileEvidence, table: str) -> Section:
    """Users with campaigns: targets, with a label where a column says who took part, or participations."""
    section = Section(table, [file])
    columns = _keys(file, section)
    moment = _moment(file, table, columns, section)
    label = label_column(file) if table == "targets" else None
    if label is not None:
        _add_label(label, moment, columns, section)
    coupon = file.first("coupon")
    if coupon is not None and coupon not in columns.values() and (label is not None or table == "participations"):
        columns["coupon_id"] = coupon
    propensity = file.first("propensity")
    if table == "targets" and propensity is not None and propensity.is_number:
        columns["propensity"] = propensity
    rows = Rows(file)
    _without_control(rows, section)
    if table == "targets" and file.acts is not None:
        _without_bounces(rows, file.acts, section)
    finish(section, rows, columns)
    return section


def taken_section(file: FileEvidence) -> Section | None:
    """Participations of a file of targets: the rows in which a column says when the campaign was taken up."""
    moment = next((one for one in file.candidates("participated_at") if one.is_time), None)
    if moment is None or moment.filled_share > MOSTLY or label_column(file) is not None:
        return None
    section = Section("participations", [file])
    columns = {**_keys(file, section), "participated_at": moment}
    coupon = file.first("coupon")
    if coupon is not None and coupon not in columns.values():
        columns["coupon_id"] = coupon
    add_format(section, "participated_at", moment)
    rows = Rows(file)
    rows.conditions.append(is_blank(rows, moment, negated=True))
    section.comments.append(f"CHECK: rows with a value in {moment.name} took part")
    finish(section, rows, columns)
    return section


def _without_control(rows: Rows, section: Section) -> None:
    """Leave out the group of an experiment that was not sent the campaign."""
    for column in rows.base.columns.values():
        if column.distinct > MOST_ARMS or column.name in section.columns.values():
            continue
        control = [word for word in column.words if CONTROL.fullmatch(squashed(word))]
        if control and len(column.words) > len(control):
            rows.conditions.append(f"{rows.name(column)} NOT IN ({', '.join(map(literal, control))})")
            section.comments.append(
                f"CHECK: {', '.join(control)} in {column.name} were not sent the campaign; left out"
            )
            column.file.used.add(column.name)


def _keys(file: FileEvidence, section: Section) -> dict[str, ColumnEvidence]:
    """The campaign, or what can stand for it, and the user."""
    campaign, store = file.first("campaign") or file.first("coupon"), file.first("store")
    if campaign is None and store is not None:
        section.comments.append(f"DECIDE: no column names a campaign; {store.name} is taken for it")
    found = {"campaign_id": campaign or store, "user_id": file.first("user") or file.first("email")}
    return {canonical: column for canonical, column in found.items() if column is not None}


def _moment(
    file: FileEvidence, table: str, columns: dict[str, ColumnEvidence], section: Section
) -> ColumnEvidence | None:
    """Add the column of the time, if there is one."""
    when = WHEN[table]
    moment = time_column(file, when) or time_column(file)
    day = file.first("day_number")
    if moment is None and table == "participations" and day is not None and is_day_number(day):
        columns[when] = day
        section.formats[when] = "day"
        section.first_day = FIRST_DAY
    elif moment is not None and (moment.filled_share > 0.9 or table == "participations"):
        columns[when] = moment
        add_format(section, when, moment)
    return moment


def _add_label(
    label: ColumnEvidence, moment: ColumnEvidence | None, columns: dict[str, ColumnEvidence], section: Section
) -> None:
    """Add the column that says who took part, and when, where another column says that."""
    section.label = label.name
    section.label_values = [word for word in label.words if word == "是"]
    section.comments.append(f"CHECK: {label.name} says who took part ({', '.join(list(label.words)[:5])})")
    label.file.used.add(label.name)
    taken_at = time_column(label.file, "participated_at")
    if taken_at is not None and taken_at is not moment:
        columns["participated_at"] = taken_at


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


def lacks_label(file: FileEvidence, labelled: Sequence[FileEvidence]) -> bool:
    """Whether a file is another one without its label: the part of a competition whose outcomes are kept secret."""
    keys = {column.name for one in ("user", "campaign", "store") if (column := file.first(one)) is not None}
    return any(one is not file and keys <= set(one.types) for one in labelled) and file not in labelled
