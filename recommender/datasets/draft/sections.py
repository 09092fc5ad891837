"""One section of a drafted mapping, and its TOML."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recommender.datasets.draft.evidence import FileEvidence
from recommender.datasets.tables import CONTRACT

LONGEST_LIST = 12
"""Columns that a comment lists before it only counts. Chosen by hand."""


@dataclass(frozen=True)
class Log:
    """Where the rows of a log come from.

    Attributes:
        source: SQL after FROM.
        kind: SQL of the shop's own word of the kind.
        columns: canonical column -> SQL.
        words: the shop's words -> what they mean, as `kinds` says.
        without: writes the section anew without a canonical column.
    """

    source: str
    kind: str
    columns: Mapping[str, str]
    words: Mapping[str, str | None]
    without: Callable[[str], None]


@dataclass
class Section:
    """One part of a table as the draft maps it.

    Attributes:
        table: the canonical table.
        files: the files that it reads. With a `query` they become [inputs].
        query: SQL, where one file's own columns are not enough.
        comments: what a person must check or decide, one line each.
    """

    table: str
    files: list[FileEvidence]
    query: str | None = None
    where: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    per_unit: list[str] = field(default_factory=list)
    first_day: str | None = None
    label: str | None = None
    label_values: list[str] = field(default_factory=list)
    decimal: str | None = None
    thousands: str | None = None
    comments: list[str] = field(default_factory=list)
    words: dict[str, str | None] = field(default_factory=dict)
    """The shop's words of the kind -> what they mean, see `kinds.kind_of`."""
    log: "Log | None" = None
    """Of a log with words of kinds: where its rows come from."""

    @property
    def is_query(self) -> bool:
        """Whether it reads [inputs] by a query."""
        return self.query is not None

    def lines(self, folder: Path | None) -> list[str]:
        """The TOML of the section."""
        head = f"[[tables.{self.table}]]   # {CONTRACT[self.table].meaning}"
        lines = [head]
        if self.query is not None:
            lines += ['query = """', *(line.replace("\\", "\\\\") for line in self.query.splitlines()), '"""']
        else:
            lines += file_lines(self.files[0], folder)
        lines += [f"where = {string(self.where)}"] if self.where else []
        renamed = {ours: theirs for ours, theirs in self.columns.items() if ours != theirs}
        lines += [f"columns = {table(renamed)}"] if renamed and not self.is_query else []
        lines += [f"constants = {table(self.constants)}"] if self.constants else []
        lines += [f"formats = {table(self.formats)}"] if self.formats else []
        lines += [f"first_day = {self.first_day}"] if self.first_day else []
        lines += [f"values = {{ kind = {table(self.kinds, quote_keys=True)} }}"] if self.kinds else []
        lines += [f"scale = {{ {', '.join(f'{k} = {v:g}' for k, v in self.scale.items())} }}"] if self.scale else []
        lines += [f"per_unit = [{', '.join(map(string, self.per_unit))}]"] if self.per_unit else []
        lines += [f"label = {string(self.label)}"] if self.label else []
        lines += [f"label_values = [{', '.join(map(string, self.label_values))}]"] if self.label_values else []
        lines += [f"decimal = {string(self.decimal)}"] if self.decimal else []
        lines += [f"thousands = {string(self.thousands)}"] if self.thousands else []
        return lines + [f"# {one_line(comment)}" for comment in (*self.comments, *self._unfound())]

    def _unfound(self) -> list[str]:
        """What the table could also have, and what of a file it does not use."""
        said = []
        contract = CONTRACT[self.table].columns
        mapped = {*self.columns, *self.constants}
        missing = [name for name, column in contract.items() if column.required and name not in mapped]
        derived = {"event_id", "targeted_at"}
        said += [
            f"MISSING: {name} ({contract[name].meaning}): no column looks like it, and this table needs it"
            for name in missing
            if name not in derived
        ]
        if not self.is_query:
            unused = [name for name in self.files[0].types if name not in {*self.columns.values(), self.label}]
            said += [f"in the file, not used here: {listed(unused)}"] if unused else []
        return said


def listed(names: Iterable[str]) -> str:
    """Names for a comment, at most LONGEST_LIST of them."""
    names = list(names)
    more = f" and {len(names) - LONGEST_LIST} more" if len(names) > LONGEST_LIST else ""
    return ", ".join(names[:LONGEST_LIST]) + more


def file_lines(file: FileEvidence, folder: Path | None) -> list[str]:
    """`file` and how it is opened.

    A mapping's relative paths are relative to its own folder. An absolute path stays as it is.
    """
    path = file.path if folder is None or file.path.is_absolute() else Path(os.path.relpath(file.path, folder))
    lines = [f"file = {string(str(path))}"]
    for key, value in file.form.items():
        text = f"[{', '.join(map(string, value))}]" if isinstance(value, tuple) else string(str(value))
        lines.append(f"{key} = {text}")
    return lines


def input_lines(file: FileEvidence, folder: Path | None) -> list[str]:
    """The section of [inputs] of a file."""
    return [f"[inputs.{file.name}]", *file_lines(file, folder), *(f"# {one_line(one)}" for one in file.comments)]


def one_line(text: str) -> str:
    """A comment's text without line ends, which would end the comment."""
    return " ".join(text.split())


def string(value: str) -> str:
    """A TOML basic string. JSON's escapes are a part of TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def table(values: Mapping[str, str], *, quote_keys: bool = False) -> str:
    """An inline TOML table. Keys are canonical columns, or a shop's own words in quotes."""
    pairs = (f"{string(key) if quote_keys else key} = {string(value)}" for key, value in values.items())
    return f"{{ {', '.join(pairs)} }}"
