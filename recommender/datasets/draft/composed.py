"""Drafts items that only category, maker and brand name, and campaigns that only their targets name."""

from collections.abc import Sequence
from datetime import date, timedelta

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.moments import FIRST_DAY, timestamp_sql
from recommender.datasets.draft.roles import Role, month_and_day
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section

PARTS = ("category", "manufacturer", "brand")
"""Columns that together stand for a product where none has a number of its own."""
WINDOW_DAYS = 30
"""Days after the last target that a campaign without a stated end counts as live. Chosen by hand."""
LONG_WINDOW_DAYS = 180
"""The same where no time is known at all, after the end of the log: half a year, as in IJCAI-15."""


def parts_of(file: FileEvidence, files: Sequence[FileEvidence], roles: dict[str, Role | None]) -> list[ColumnEvidence]:
    """The columns that stand for a product: of those, the ones that a file of offers names too."""
    found = [column for one in PARTS if (column := file.first(one)) is not None]
    promoted = [one for one in files if roles[one.name] == "promoted"]
    shared = [column for column in found if all(column.name in one.types for one in promoted)]
    return shared if len(shared) > 1 else []


def composed(rows: Rows, parts: Sequence[ColumnEvidence]) -> str:
    """SQL of one identifier made of several columns."""
    return " || '-' || ".join(rows.name(part) for part in parts)


def promoted_items(
    files: Sequence[FileEvidence], roles: dict[str, Role | None], targets: Sequence[Section]
) -> list[Section]:
    """Items of offers that name a category, a maker and a brand, for the campaigns that have targets."""
    sections = []
    for file in files:
        campaign, parts = file.first("campaign"), parts_of(file, files, roles)
        if roles[file.name] != "promoted" or campaign is None or not parts:
            continue
        rows = Rows(file)
        rows.expressions["item_id"] = composed(rows, parts)
        section = Section("campaign_items", [file])
        for other in targets[:1]:
            theirs = other.files[0]
            own = Rows(theirs).name(theirs.columns[other.columns["campaign_id"]])
            rows.conditions.append(f"{rows.name(campaign)} IN (SELECT {own} FROM {theirs.source})")
            section.files.append(theirs)
        section.query = rows.query({"campaign_id": campaign})
        section.columns = {"campaign_id": campaign.name, "item_id": "item_id"}
        file.taken = True
        sections.append(section)
    return sections


def campaigns_of_targets(targets: Sequence[Section], events: Sequence[Section]) -> Section | None:
    """Campaigns where no file lists them: those that the targets name, from the first to the last target."""
    for section in targets:
        if section.is_query or "campaign_id" not in section.columns:
            continue
        file = section.files[0]
        campaign = Rows(file).name(file.columns[section.columns["campaign_id"]])
        moment = file.columns.get(section.columns.get("targeted_at", ""))
        if moment is not None:
            time = Rows(file).name(moment)
            written = section.formats.get("targeted_at")
            time = timestamp_sql(time, written)
            window = f"min({time}) AS starts_at, max({time}) + to_days({WINDOW_DAYS}) AS ends_at"
            said = f"from its first target to {WINDOW_DAYS} days after the last"
        else:
            start = _after(events)
            end = start + timedelta(days=LONG_WINDOW_DAYS)
            window = f"DATE '{start}' AS starts_at, DATE '{end}' AS ends_at"
            said = f"from {start}, after the log, to {end}"
        found = Section("campaigns", [file])
        found.query = f"SELECT {campaign} AS campaign_id, {window}\nFROM {file.source}\nGROUP BY 1"
        found.columns = {one: one for one in ("campaign_id", "starts_at", "ends_at")}
        found.constants = {"kind": "promotion"}
        found.comments = [
            f"DECIDE: no file lists the campaigns; each that {file.path.name} names is taken to run {said}",
            "DECIDE: kind: promotion, coupon, member_event or launch",
        ]
        return found
    return None


def _after(events: Sequence[Section]) -> date:
    """The day after the log. Only a log without years needs it: the others have times of targets."""
    for section in events:
        for file in section.files:
            column = file.columns.get(section.columns.get("event_time", ""))
            if column is not None and month_and_day(column):
                last = int(column.numbers[1])
                return date(int(FIRST_DAY[:4]), last // 100, min(last % 100, 28)) + timedelta(days=1)
            latest = column.seen.commonest if column is not None else ()
            days = [text[:10] for text in latest if text[4:5] == "-"]
            if days:
                return date.fromisoformat(max(days)) + timedelta(days=1)
    return date.fromisoformat(FIRST_DAY)
