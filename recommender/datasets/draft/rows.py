"""Rows that a section reads: one file, or a file joined with those that say more about its rows."""

import re
from dataclasses import dataclass, field

from recommender.datasets.draft.evidence import LINE, ColumnEvidence, FileEvidence
from recommender.datasets.draft.keys import Join
from recommender.datasets.reading.raw import quoted

PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
"""Characters of names that SQL takes without quotes."""
RESERVED = frozenset(
    {
        *("all", "and", "any", "as", "asc", "between", "by", "case", "cast", "column", "date", "day", "default"),
        *("desc", "distinct", "else", "end", "event", "from", "group", "having", "hour", "in", "interval", "is"),
        *("join", "left", "like", "limit", "minute", "month", "name", "not", "null", "offset", "on", "or"),
        *("order", "primary", "quantity", "references", "right", "select", "set", "table", "then", "time"),
        *("timestamp", "to", "type", "union", "unique", "user", "using", "value", "when", "where", "window"),
        *("with", "year"),
    }
)
"""Words that SQL may read as its own: they are quoted."""


def sql_name(name: str) -> str:
    """A column's name in SQL, in quotes only where it needs them."""
    plain = set(name) <= PLAIN and not name[0].isdigit() and name.lower() not in RESERVED
    return name if plain else quoted(name)


@dataclass
class Rows:
    """A file and the files joined to it.

    Attributes:
        base: each of its rows gives at most one row.
        joins: in the order in which they are written.
        expressions: canonical column -> SQL, where it is not one column as it stands.
        conditions: SQL that must hold, over texts.
    """

    base: FileEvidence
    joins: list[Join] = field(default_factory=list)
    expressions: dict[str, str] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    also: list[FileEvidence] = field(default_factory=list)
    """Files that an expression reads besides."""
    filled_down: dict[str, str] = field(default_factory=dict)
    """Column that stands only in the first line of an order -> the order's column."""

    @property
    def files(self) -> list[FileEvidence]:
        """The base and the joined files."""
        found = [self.base]
        found += [join.one.file for join in self.joins if join.one.file not in found]
        return found

    def first(self, meaning: str) -> ColumnEvidence | None:
        """The likeliest column of a meaning: of the base, else of what is joined."""
        return next((column for file in self.files if (column := file.first(meaning)) is not None), None)

    @property
    def needs_query(self) -> bool:
        """Whether one file's own columns are not enough."""
        return bool(self.joins or self.expressions or self.filled_down or self.base.paths or self.base.lines)

    def name(self, column: ColumnEvidence) -> str:
        """SQL of a column."""
        alone = sum(column.name.lower() in {one.lower() for one in file.types} for file in self.files) == 1
        inside = column.file.paths.get(column.name)
        if inside is not None:
            is_line = inside.startswith(f"{LINE}.")
            return _path(inside) if is_line or len(self.files) == 1 else _of_file(column)
        plain = sql_name(column.name)
        if column.name in self.filled_down and column.file is self.base:
            order = sql_name(self.filled_down[column.name])
            plain = f"max(nullif({plain}, '')) OVER (PARTITION BY {order})"
        return plain if alone or len(self.files) == 1 else f"{column.file.name}.{plain}"

    @property
    def source(self) -> str:
        """SQL of the rows, after FROM."""
        return "\n".join([self.base.source, *(_join(self, join) for join in self.joins)])

    def query(self, columns: dict[str, ColumnEvidence], *, distinct: bool = False) -> str:
        """A SELECT of canonical columns."""
        parts = []
        for canonical in {**columns, **self.expressions}:
            sql = self.expressions.get(canonical) or self.name(columns[canonical])
            parts.append(sql if sql == canonical else f"{sql} AS {canonical}")
        lines = [f"SELECT {'DISTINCT ' if distinct else ''}{wrapped(parts)}", f"FROM {self.source}"]
        if self.conditions and not self.filled_down:
            lines.append("WHERE " + "\n    AND ".join(self.conditions))
        elif self.conditions:
            # What is filled down from an order's first line is known only after WHERE.
            lines.append("QUALIFY " + "\n    AND ".join(self.conditions))
        return "\n".join(lines)


def _path(inside: str) -> str:
    """SQL of a field inside a record, without the quotes that it does not need."""
    parts = re.findall(r'"((?:[^"]|"")+)"|(\w+)', inside)
    return ".".join(sql_name(quoted_part.replace('""', '"') or plain) for quoted_part, plain in parts)


def _join(rows: Rows, join: Join) -> str:
    many, one = join.many, join.one
    kind = "LEFT JOIN" if join.optional else "JOIN"
    if many.name == one.name and sum(many.name in file.types for file in rows.files) == 2:
        return f"{kind} {one.file.source} USING ({sql_name(one.name)})"
    return f"{kind} {one.file.source} ON {_of_file(many)} = {_of_file(one)}"


def _of_file(column: ColumnEvidence) -> str:
    """SQL of a column with its file's name."""
    inside = column.file.paths.get(column.name)
    return f"{column.file.name}.{_path(inside) if inside is not None else sql_name(column.name)}"


def wrapped(parts: list[str]) -> str:
    """A list of columns in lines of at most 110 characters."""
    lines, line = [], ""
    for place, part in enumerate(parts):
        part += "," if place < len(parts) - 1 else ""
        if line and len(line) + len(part) > 106:
            lines.append(line)
            line = ""
        line = f"{line} {part}".strip()
    return "\n    ".join([*lines, line])
