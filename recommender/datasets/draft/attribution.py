"""Drafts which campaign an event came from: a column of the log, where its values are campaigns that a file lists."""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import overlap
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section

ALL = 0.99
"""Share of a log's campaigns that a file must list for the column to stand as it is: a run stops where more than one
row in a hundred names a campaign that is nowhere."""
FEW = 0.02
"""Share below which the column names something else, such as sources of traffic. Chosen by hand."""


def add_campaign(
    rows: Rows,
    column: ColumnEvidence,
    columns: dict[str, ColumnEvidence],
    section: Section,
    files: Sequence[FileEvidence],
) -> None:
    """Add `campaign_id`: as it stands, or only where a file of campaigns lists it."""
    candidates = [one for one in column.file.candidates("campaign") if one.name not in _names(columns)]
    keys = [
        key
        for file in files
        if (key := file.first("campaign")) is not None and key.is_unique and key.file is not column.file
    ]
    best = max(keys, key=lambda key: overlap(column, key), default=None)
    if best is None:
        columns["campaign_id"] = column
        return
    known = overlap(column, best)
    if known < FEW:
        section.comments.append(
            f"CHECK: {column.name} is not used: {best.file.path.name} lists hardly any of its values"
        )
        return
    columns["campaign_id"] = column
    all_known = all(overlap(one, best) >= ALL for one in candidates)
    if all_known and len(candidates) == 1:
        return
    own = ", ".join(rows.name(one) for one in candidates)
    value = f"coalesce({own})" if len(candidates) > 1 else own
    if all_known:
        rows.expressions["campaign_id"] = value
        return
    known_key = Rows(best.file).name(best)
    rows.expressions["campaign_id"] = (
        f"CASE WHEN {value} IN (SELECT {known_key} FROM {best.file.source}) THEN {value} END"
    )
    rows.also.append(best.file)
    if known < ALL:
        section.comments.append(
            f"CHECK: values of {column.name} that {best.file.path.name} does not list are left empty"
        )


def _names(columns: dict[str, ColumnEvidence]) -> set[str]:
    return {column.name for column in columns.values()}
