"""Drafts users and items: from a file that lists them, or from what a log says of them beside its events."""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import MOSTLY, ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import Join, decides, overlap
from recommender.datasets.draft.moments import add_format
from recommender.datasets.draft.roles import Role, time_column
from recommender.datasets.draft.rows import Rows, wrapped
from recommender.datasets.draft.sections import Section
from recommender.datasets.draft.written import finish
from recommender.datasets.tables import CONTRACT

KNOWN_ENOUGH = 0.99
"""Share of a log's users (or items) that a file of them must list. With fewer, the others are added without attributes,
because a run stops where more than one row in a hundred names nobody."""


def entity_sections(
    files: Sequence[FileEvidence], roles: dict[str, Role | None], sections: Sequence[Section]
) -> list[Section]:
    """The sections of users and items."""
    events = [section for section in sections if section.table == "events"]
    found = []
    for table, key in (("users", "user_id"), ("items", "item_id")):
        named = [(section, section.columns[key]) for section in events if key in section.columns]
        columns = [column for section, name in named for file in section.files if (column := file.columns.get(name))]
        listed = _best([file for file in files if roles[file.name] == table], key, columns)
        if listed is not None:
            found.append(_listed(table, key, listed, columns, files))
        elif columns:
            section = _from_log(table, key, columns[0])
            found += [section] if section is not None else []
    return found


def _best(
    files: Sequence[FileEvidence], key: str, used: Sequence[ColumnEvidence]
) -> tuple[FileEvidence, ColumnEvidence] | None:
    """The file whose keys the log uses most, and its column of them."""
    entity = key.removesuffix("_id")
    best, most = None, -1.0
    for file in files:
        candidates = file.candidates(entity) or (file.candidates("email") if entity == "user" else [])
        for column in candidates:
            share = max((overlap(one, column) for one in used), default=0.0)
            if share > most:
                best, most = (file, column), share
    return best


def _attributes(file: FileEvidence, table: str, key: ColumnEvidence) -> dict[str, ColumnEvidence]:
    """The columns of a file that are attributes of a table."""
    found: dict[str, ColumnEvidence] = {}
    for canonical, wanted in CONTRACT[table].columns.items():
        if canonical in (f"{key.name}_id", "user_id", "item_id"):
            continue
        for column in file.candidates(canonical):
            if column is key or column in found.values():
                continue
            text = wanted.dtype == CONTRACT["items"].columns["name"].dtype
            is_price, is_date = canonical == "price", canonical == "joined_at"
            if text or (is_price and column.is_number) or (is_date and column.is_time):
                found[canonical] = column
                break
    return found


def _listed(
    table: str,
    key: str,
    listed: tuple[FileEvidence, ColumnEvidence],
    used: Sequence[ColumnEvidence],
    files: Sequence[FileEvidence],
) -> Section:
    """Entities that a file lists; with those besides that only the log knows."""
    file, column = listed
    section = Section(table, [file])
    rows = Rows(file)
    attributes = _attributes(file, table, column)
    if table == "items":
        _names_of_groups(rows, attributes, files)
    columns = {key: column, **attributes}
    if "joined_at" in attributes and time_column(file, "joined_at") is not None:
        add_format(section, "joined_at", attributes["joined_at"])
    known = min((overlap(one, column) for one in used), default=1.0)
    if not column.is_unique:
        _one_row_each(section, rows, columns, key)
    elif known < KNOWN_ENOUGH and not rows.joins and not file.lines:
        _with_others(section, rows, columns, key, used[0])
        section.comments.append(
            f"CHECK: {file.path.name} lists {known:.0%} of those in the events; the others have no attributes"
        )
    else:
        finish(section, rows, columns)
    return section


def _names_of_groups(rows: Rows, attributes: dict[str, ColumnEvidence], files: Sequence[FileEvidence]) -> None:
    """Join the names of groups that a file of items only numbers: aisle_id with aisles.csv."""
    for canonical, column in list(attributes.items()):
        if not column.name.lower().endswith("id"):
            continue
        for other in files:
            if other is rows.base or column.name not in other.types or len(other.types) > 3:
                continue
            key = other.columns[column.name]
            names = [one for name, one in other.columns.items() if name != column.name]
            if key.is_unique and names and overlap(column, key) > MOSTLY:
                rows.joins.append(Join(column, key, optional=True))
                attributes[canonical] = next((one for one in names if "name" in one.meanings), names[0])
                other.taken = True
                break


def _one_row_each(section: Section, rows: Rows, columns: dict[str, ColumnEvidence], key: str) -> None:
    """Group rows of a file that lists an entity more than once."""
    name = rows.name(columns[key])
    if columns[key].differs_by_case:
        name = f"lower({name})"
    parts = [f"{name} AS {key}"]
    parts += [f"max({rows.name(one)}) AS {canonical}" for canonical, one in columns.items() if canonical != key]
    finish(section, rows, columns)
    section.query = f"SELECT {wrapped(parts)}\nFROM {rows.base.source}\nWHERE {name} <> ''\nGROUP BY 1"
    section.files = [rows.base]
    section.comments.append(f"CHECK: {columns[key].name} has several rows; the largest value of each column is taken")


def _with_others(
    section: Section, rows: Rows, columns: dict[str, ColumnEvidence], key: str, used: ColumnEvidence
) -> None:
    """All that the log names, with the attributes of those that the file lists."""
    finish(section, rows, columns)
    own, theirs = rows.name(columns[key]), Rows(used.file).name(used)
    source = used.file.source
    parts = [
        f"_all._key AS {key}",
        *(f"{rows.name(one)} AS {name}" for name, one in columns.items() if name != key),
    ]
    section.query = (
        f"SELECT {wrapped(parts)}\n"
        f"FROM (SELECT {own} AS _key FROM {rows.base.name} UNION SELECT {theirs} FROM {source}) AS _all\n"
        f"LEFT JOIN {rows.base.name} ON _all._key = {rows.base.name}.{own}\nWHERE _all._key <> ''"
    )
    section.files = [rows.base, used.file]


def _from_log(table: str, key: str, column: ColumnEvidence) -> Section | None:
    """What a log says of its users or items beside each event: a name, a category, a region."""
    file = column.file
    attributes = {
        canonical: one
        for canonical, one in _attributes(file, table, column).items()
        if one.name not in file.used and canonical != "price" and decides(column, one)
    }
    if not attributes:
        return None
    section = Section(table, [file])
    _one_row_each(section, Rows(file), {key: column, **attributes}, key)
    return section
