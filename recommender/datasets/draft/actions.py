"""Drafts what was done: the kind of an event, by the words of a log or as a constant."""

from collections.abc import Sequence

from recommender.datasets.draft.conditions import MOST_FLAGS, TRUE
from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.headers import table_words
from recommender.datasets.draft.keys import Join, overlap
from recommender.datasets.draft.kinds import IGNORE, SENT, TAKEN, code_of, kind_of
from recommender.datasets.draft.roles import kind_column, kind_of_file
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section
from recommender.datasets.reading.raw import literal

MOST_SHOWN = 10
"""Words of a column that is not understood up to which they are listed. Chosen by hand."""
MOST_KINDS = 500
"""Rows of a file that may list the kinds of events. Chosen by hand."""


def add_kind(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, files: Sequence[FileEvidence]) -> None:
    """The kind: the file's own words, or a constant."""
    column = kind_column(rows.base) or _kind_elsewhere(rows, files)
    if column is None and _returns_by_flag(rows, section):
        return
    if column is None:
        section.constants["kind"], certain = _constant_kind(rows)
        if not certain:
            kind = section.constants["kind"]
            section.comments.append(f"DECIDE: no column says what was done; every row is taken for a {kind}")
        for unread in rows.base.candidates("kind"):
            words = ", ".join(f"{word} ({count:,} rows)" for word, count in list(unread.words.items())[:MOST_SHOWN])
            if 1 < len(unread.words) <= MOST_SHOWN:
                section.comments.append(f"CHECK: {unread.name} holds {words}: is one of them a return or no sale?")
        return
    columns["kind"] = column
    code = code_of(column.words)
    if code is not None:
        says, meanings = code
        section.kinds = {word: meanings[word.removesuffix(".0")] for word in column.words}
        section.comments.append(f"CHECK: the numbers in {column.name} are read as {says}")
        return
    meant = {word: kind_of(word) for word in column.words}
    section.words = dict(meant)
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


def _returns_by_flag(rows: Rows, section: Section) -> bool:
    """Take lines that a column of yes and no calls returned for returns, and the others for purchases."""
    for column in rows.base.candidates("return_flag"):
        true = [word for word in column.words if word.lower() in TRUE]
        if true and len(column.words) <= MOST_FLAGS and _constant_kind(rows)[0] == "purchase":
            words = ", ".join(map(literal, true))
            rows.expressions["kind"] = (
                f"CASE WHEN {rows.name(column)}::VARCHAR IN ({words}) THEN 'return' ELSE 'purchase' END"
            )
            section.comments.append(f"CHECK: rows with {', '.join(true)} in {column.name} are returns")
            column.file.used.add(column.name)
            return True
    return False


def _kind_elsewhere(rows: Rows, files: Sequence[FileEvidence]) -> ColumnEvidence | None:
    """The words of a kind in a small file of its own, to which the log's rows refer by a number."""
    for other in files:
        if other in rows.files or other.rows > MOST_KINDS:
            continue
        words = next((one for one in other.columns.values() if _are_kinds(one)), None)
        keys = [one for one in other.columns.values() if one is not words and one.is_unique]
        if words is None or not keys:
            continue
        for column in rows.base.columns.values():
            for key in keys:
                if 1 < column.distinct <= other.rows and overlap(column, key) == 1:
                    rows.joins.append(Join(column, key))
                    return words
    return None


def _are_kinds(column: ColumnEvidence) -> bool:
    words = list(column.words)
    return len(words) > 1 and sum(kind_of(word) is not None for word in words) > len(words) / 2


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
    if item is None or column.file is not file:
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
    named = kind_of_file(file)
    if named is not None:
        return named, False
    if any(rows.first(one) is not None for one in ("order", "amount", "unit_price", "order_total", "quantity")):
        return "purchase", True
    if any(column.is_number for column in file.candidates("rating")):
        return "review", False
    if file.has("query"):
        return "search", False
    return "purchase", table_words(file.stem, "events") > 5
