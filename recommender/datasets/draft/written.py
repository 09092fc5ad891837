"""Writes the columns that were found into a section: as a file's own, or as a query where that is needed."""

from recommender.datasets.draft.evidence import ColumnEvidence
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Log, Section


def finish(section: Section, rows: Rows, columns: dict[str, ColumnEvidence], *, distinct: bool = False) -> None:
    """Write the columns into a section: as a file's own, or as a query where that is needed."""
    for file in rows.files:
        file.taken = True
    section.columns = {canonical: column.name for canonical, column in columns.items()}
    section.columns |= {canonical: canonical for canonical in rows.expressions}
    section.files = [*rows.files, *rows.also]
    if section.words and "kind" in columns:
        named = {canonical: rows.name(column) for canonical, column in columns.items()}

        def without(canonical: str) -> None:
            rows.expressions.pop(canonical, None)
            finish(section, rows, {name: column for name, column in columns.items() if name != canonical})

        section.log = Log(rows.source, rows.name(columns["kind"]), named | rows.expressions, section.words, without)
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
