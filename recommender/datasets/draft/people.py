"""Drafts who an event is of: the column of the user, and the person behind numbers that are new in every order."""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import JOINABLE, Join, decides, joins, overlap
from recommender.datasets.draft.roles import repeated_bare_key
from recommender.datasets.draft.rows import Rows
from recommender.datasets.draft.sections import Section, listed

FEW_OF_MANY = 0.4
"""Share of the values of another candidate below which a column does not name the shoppers. Chosen by hand."""


def user_of(rows: Rows, files: Sequence[FileEvidence], section: Section) -> ColumnEvidence | None:
    """The column of the person, joined from a file of customers where an order's number is new each time."""
    found = [column for file in rows.files for column in file.candidates("user")]
    filled = [column for column in found if column.filled_share >= 0.5]
    if filled and filled[0] is not found[0]:
        section.comments.append(
            f"CHECK: {found[0].name} is empty in {1 - found[0].filled_share:.0%} of the rows; {filled[0].name} is taken"
        )
    emails = [column for file in rows.files for column in file.candidates("email")]
    candidates = _many_first([*filled, *emails])
    known = [column for column in candidates if _is_known_elsewhere(column, rows, files)]
    user = next(iter([*known, *candidates, *found]), None)
    others = [column.name for column in filled if column is not user and column.distinct > 1]
    if user is not None and others and not known:
        section.comments.append(
            f"DECIDE: user_id: {user.name} has {user.distinct:,} values; or is it {listed(others)}?"
        )
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


def _many_first(candidates: Sequence[ColumnEvidence]) -> list[ColumnEvidence]:
    """Put columns of a handful of values last: a till's cashiers beside the shoppers."""
    most = max((column.distinct for column in candidates if not column.is_unique), default=0)
    return sorted(candidates, key=lambda column: column.distinct < FEW_OF_MANY * most)


def _is_known_elsewhere(column: ColumnEvidence, rows: Rows, files: Sequence[FileEvidence]) -> bool:
    """Whether another file names the same users: a customer's number or a mail address, whichever it uses."""
    others = [
        other
        for file in files
        if file not in rows.files
        for meaning in ("user", "email")
        for other in file.candidates(meaning)
    ]
    return any(overlap(column, other) > JOINABLE or overlap(other, column) > JOINABLE for other in others)


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
