"""Drafts which rows count: no cancelled orders, no guests, no parts of other lines, no lines of zero units."""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.kinds import is_cancelled, is_unpaid
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section
from recommender.datasets.reading.raw import literal

GUESTS = 0.001
"""Share of rows without a user from which on the draft leaves them out by a condition. By hand: fewer go to
quarantine."""


TRUE = ("1", "1.0", "true", "t", "yes", "y", "j", "ja", "oui", "o", "si", "sí", "s", "sim", "x", "是", "wahr", "vrai")
"""Words that mean yes."""
MOST_FLAGS = 3
"""Different values of a column of yes and no, with one for unknown."""
HEAVY = 4
"""Times the rows of the next user from which on one user may stand for all guests. Chosen by hand."""
ONE_PERSON = (
    *("0", "-1", "guest", "anonymous", "unknown", "null", "none", "walk-in", "cash", "gast", "invité", "invitado"),
    *("consumidor final", "cliente final", "client de passage", "laufkunde", "游客", "散客", "匿名"),
)
"""Values that stand for everyone who is not known."""


def add_conditions(rows: Rows, user: ColumnEvidence | None, section: Section) -> None:
    """Leave out orders that came to nothing, and rows of nobody."""
    for file in rows.files:
        for column in file.candidates("status"):
            _status(rows, column, section)
        for column in file.candidates("cancelled_at"):
            rows.conditions.append(is_blank(rows, column))
            section.comments.append(f"CHECK: rows with a value in {column.name} are left out")
        _flags(rows, file, section)
        for column in file.candidates("parent"):
            if file is rows.base and column.filled_share < 0.9:
                rows.conditions.append(is_blank(rows, column))
                section.comments.append(f"CHECK: lines with a {column.name} are parts of another line; left out")
    _guests(rows, user, section)
    quantity = rows.base.columns.get(section.columns.get("quantity", ""))
    if quantity is not None and quantity.numbers[0] == 0 and quantity.is_number:
        name = rows.name(quantity)
        rows.conditions.append(f"coalesce(TRY_CAST({name} AS DOUBLE), 1) <> 0")
        section.comments.append(f"CHECK: lines with 0 in {quantity.name} are left out")


def _flags(rows: Rows, file: FileEvidence, section: Section) -> None:
    """Leave out lines that a column of yes and no calls cancelled, deleted or a test."""
    for column in file.candidates("flag"):
        true = [word for word in column.words if word.lower() in TRUE]
        if true and len(column.words) <= MOST_FLAGS:
            rows.conditions.append(f"{_text(rows, column)} NOT IN ({', '.join(map(literal, true))})")
            section.comments.append(f"CHECK: rows with {', '.join(true)} in {column.name} are left out")
            file.used.add(column.name)


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


def is_blank(rows: Rows, column: ColumnEvidence, further: Sequence[str] = (), *, negated: bool = False) -> str:
    """SQL of whether a column has no value: it is missing, empty, or a word such as NULL."""
    words = list(dict.fromkeys(["", *column.blanks, *further]))
    if len(words) == 1:
        return f"{_text(rows, column)} {'<>' if negated else '='} ''"
    return f"{_text(rows, column)} {'NOT IN' if negated else 'IN'} ({', '.join(map(literal, words))})"


def _guests(rows: Rows, user: ColumnEvidence | None, section: Section) -> None:
    if user is None:
        return
    nobody = [word for word, n in user.words.items() if word.lower() in ONE_PERSON and n > 0.05 * user.file.rows]
    heaviest = list(user.words.values())[:2]
    if len(heaviest) == 2 and heaviest[0] > max(HEAVY * heaviest[1], 0.05 * user.file.rows) and not nobody:
        name, rows_of = next(iter(user.words.items()))
        section.comments.append(f"CHECK: {user.name} = {name} has {rows_of:,} rows, far more than anybody: a guest?")
    if 1 - user.filled_share > GUESTS or nobody:
        rows.conditions.append(is_blank(rows, user, nobody, negated=True))
        section.comments.append(f"CHECK: rows without {user.name} are left out: guests")
