"""Drafts a mapping TOML from a user's own files: by header words, by values, and by keys that files share.

`vocabulary` and `headers` say what a column's name may mean, `evidence` what its values are, `keys` which files belong
together, `roles` what a file holds. `events`, `campaigns` and `entities` make the sections. Comments in the draft mark
what a person must decide (DECIDE), check (CHECK) or add (MISSING).
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from recommender.datasets.draft.campaigns import campaign_sections
from recommender.datasets.draft.composed import campaigns_of_targets, promoted_items
from recommender.datasets.draft.entities import entity_sections
from recommender.datasets.draft.events import event_sections
from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import clear_line_numbers, name_bare_keys, name_campaigns
from recommender.datasets.draft.moments import day_first
from recommender.datasets.draft.open_files import look_at, look_at_sheets
from recommender.datasets.draft.patterns import alike, expanded, pattern_of
from recommender.datasets.draft.roles import Role, role_of
from recommender.datasets.draft.sections import Section, input_lines, listed, one_line
from recommender.datasets.draft.sends import send_sections
from recommender.datasets.draft.trial import problem_of
from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError

THREADS = 2
"""Threads of DuckDB: room for what else runs on a small machine."""


def draft(files: Sequence[Path], folder: Path | None = None) -> str:
    """Draft the mapping TOML of `files`, naming them relative to `folder`, or without one by the paths given.

    Raises:
        SourceError: no file is given, or one is missing, or none can be read; names it.
    """
    if not files:
        raise SourceError("no file is given to draft a mapping from; name at least one file")
    with (
        TemporaryDirectory(prefix="recommender-draft-") as scratch,
        duckdb.connect(str(Path(scratch) / "draft.duckdb"), config={"threads": THREADS}) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        seen, unread = _look_at_all(connection, expanded(files), Path(scratch))
        _prepare(seen)
        sections = _sections(seen)
        if not sections:
            seen_columns = "; ".join(f"{file.path.name}: {listed(file.types)}" for file in seen)
            reason = f"no file fits a table of the contract ({seen_columns})"
            raise SourceError(
                "; ".join([reason, *unread]) + "; see docs/data.md for the tables, and write the mapping by hand"
            )
        trial = Path(scratch) / "mapping.toml"
        trial.write_text(_text(seen, sections, unread, trial.parent), encoding="utf-8")
        problem = problem_of(seen, trial)
        text = _text(seen, sections, unread, folder)
        return text if problem is None else text.replace("\n", f"\n# PROBLEM: {one_line(problem)}\n", 1)


def _look_at_all(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], scratch: Path
) -> tuple[list[FileEvidence], list[str]]:
    """Open every file. One that cannot be read becomes a comment, unless it is the only one or does not exist."""
    names: set[str] = set()
    seen: list[FileEvidence] = []
    unread: list[str] = []
    for file in files:
        try:
            opened, sheets = look_at_sheets(connection, file, names, scratch)
            seen += opened
            unread += sheets
        except SourceError as error:
            if len(files) == 1 or not file.exists():
                raise
            unread.append(str(error))
    if not seen:
        raise SourceError("; ".join(unread))
    patterns = {pattern: group for group in alike(seen) if (pattern := pattern_of(group)) is not None}
    for pattern, group in patterns.items():
        place = seen.index(group[0])
        seen = [file for file in seen if file not in group]
        seen.insert(place, look_at(connection, pattern, names, scratch))
    return seen, unread


def _prepare(files: Sequence[FileEvidence]) -> None:
    """Give columns the meanings that only other files show."""
    name_bare_keys(files)
    clear_line_numbers(files)
    name_campaigns(files)
    order = day_first(files)
    for file in files:
        file.day_first = order


def _sections(files: Sequence[FileEvidence]) -> list[Section]:
    """The sections of all tables."""
    roles: dict[str, Role | None] = {file.name: role_of(file) for file in files}
    sections = event_sections(files, roles)
    sections += campaign_sections(files, roles)
    has_campaigns = any(section.table == "campaigns" for section in sections)
    if not any(section.table == "targets" for section in sections):
        sections += send_sections(sections, files, has_campaigns=has_campaigns)
    targets = [section for section in sections if section.table in ("targets", "participations")]
    if not any(section.table == "campaign_items" for section in sections):
        sections += promoted_items(files, roles, targets)
    if targets and not any(section.table == "campaigns" for section in sections):
        derived = campaigns_of_targets(targets, [section for section in sections if section.table == "events"])
        sections += [derived] if derived is not None else []
    _stand_in_for_items(sections)
    sections += entity_sections(files, roles, sections)
    return sorted(sections, key=lambda section: list(CONTRACT).index(section.table))


def _stand_in_for_items(sections: Sequence[Section]) -> None:
    """Name one item for the events of a log with campaigns in which nothing that is bought has a name."""
    events = [section for section in sections if section.table == "events"]
    promoted = any(section.table in ("targets", "participations") for section in sections)
    if promoted and events and not any("item_id" in section.columns for section in events):
        for section in events:
            section.constants["item_id"] = "anything"
            section.comments.append("DECIDE: no file names what was bought; one item stands for everything")


def _text(
    files: Sequence[FileEvidence], sections: Sequence[Section], unread: Sequence[str], folder: Path | None
) -> str:
    return "\n".join([*_head(sections), *_bodies(sections, folder), *_tail(files, sections, unread)]).rstrip() + "\n"


def _head(sections: Sequence[Section]) -> list[str]:
    lines = [
        "# Drafted from the names and values of the files. Check every line before you use it.",
        "",
        "[source]",
        "# DECIDE: the IANA time zone of the shops, such as Europe/Berlin. Times without a zone are read in it.",
        'time_zone = "UTC"',
    ]
    amounts = [column for section in sections for column in _mapped(section, "amount")]
    currencies = {
        found for column in amounts if (found := column.seen.numbers.found.get("currency", "")) and len(found) == 3
    }
    lines += [f'currency = "{code}"' for code in sorted(currencies)[:1]]
    keys = [
        column
        for section in sections
        for key in ("user_id", "item_id", "campaign_id")
        for column in _mapped(section, key)
    ]
    differing = [column.name for column in keys if column.differs_by_case]
    if differing:
        lines.append(
            f"# CHECK: values of {listed(dict.fromkeys(differing))} differ only by letter case, and are merged"
        )
        lines.append('identifiers = "lower"')
    return lines


def _read_by(sections: Sequence[Section], file: FileEvidence) -> set[str]:
    """Columns of a file that a query names."""
    text = " ".join(section.query or "" for section in sections if file in section.files)
    return {name for name in file.types if name.rsplit(".", 1)[-1] in text}


def _mapped(section: Section, canonical: str) -> list[ColumnEvidence]:
    """The columns of a section's files that are mapped to a canonical column."""
    name = section.columns.get(canonical)
    return [file.columns[name] for file in section.files if name is not None and name in file.types]


def _bodies(sections: Sequence[Section], folder: Path | None) -> list[str]:
    """The inputs of queries, then the tables."""
    lines: list[str] = []
    inputs = {file.name: file for section in sections if section.is_query for file in section.files}
    for file in inputs.values():
        lines += ["", *input_lines(file, folder)]
    for section in sections:
        lines += ["", *section.lines(folder)]
    return lines


def _tail(files: Sequence[FileEvidence], sections: Sequence[Section], unread: Sequence[str]) -> list[str]:
    """What was not used, what a run needs besides, and what is derived."""
    found = {section.table for section in sections}
    lines = [""]
    lines += [f"# UNREAD: {one_line(problem)}" for problem in unread]
    for file in files:
        unused = [name for name in file.types if name not in file.used and name not in _read_by(sections, file)]
        if file.taken and unused and not any(section.files == [file] and not section.is_query for section in sections):
            lines.append(f"# not used of {file.path.name}: {listed(unused)}")
        if not file.taken:
            lines.append(f"# UNUSED: {file.path}: fits no table ({', '.join(list(file.types)[:8])})")
    lines += [
        f"# MISSING: no file looks like {name} ({CONTRACT[name].meaning})"
        for name in ("events", "campaigns")
        if name not in found
    ]
    if not found & {"targets", "participations"}:
        lines.append("# MISSING: no file looks like targets or participations, and one of them is needed")
    if "events" in found and "campaigns" not in found:
        lines.append(
            "# Without campaigns the log can train a next-item ranker: recommender next-items fit --interactions FILE"
        )
    derived = [name for name in ("users", "items", "campaign_items", "targets", "participations") if name not in found]
    return [*lines, *([f"# Derived from the other tables where possible: {', '.join(derived)}"] if derived else [])]
