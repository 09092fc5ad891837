"""One column of a file's rows in DuckDB, what a rule asks of it, and what the rule answers.

A rule (`Rule`) reads a column in two steps. It first asks for aggregates over the whole column (`questions`), so that
the columns of a file are surveyed together in one scan. From the answers it makes SQL (`reading`), or refuses the
column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import duckdb

from recommender.datasets.mapping import DEFAULT_NULLS, IGNORE
from recommender.datasets.values.readings import Reading, Readings, literal, quoted, shown
from recommender.errors import ContractError

BLANKS = " \t\r\n\v\f\u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200C))) + "\u202f\u205f\u3000\ufeff"
"""What is taken from both ends of a text: blanks of every width, line ends, the byte order mark."""

WHOLE_TYPES = frozenset(
    sign + name for sign in ("", "U") for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
)
"""DuckDB's types of whole numbers."""
Facts = Mapping[str, Any]
"""Answers to a rule's questions, by their names."""


@dataclass(frozen=True)
class Column:
    """A column of `relation`, a DuckDB view with `_file`, `_row` and the file's own columns.

    Attributes:
        connection: Where the view is.
        relation: The view's name.
        name: The column's own name.
        type: Its DuckDB type, as `str(type)`.
        table: The canonical table that is read, for errors.
        canonical: The canonical column.
        path: The file, for errors.
        nulls: Words for a missing value, in lower case.
        words: The source's word -> the word to read instead, or "ignore" to leave the row out.
        workbook: Whether the file is an Excel workbook, where a number may be a day.
        row_means: What `_row` counts: "line", "record" or "row" (see `reading.RawTable`).
        trimmed: Whether certainly no cell begins or ends with a blank.
    """

    connection: duckdb.DuckDBPyConnection
    relation: str
    name: str
    type: str
    table: str
    canonical: str
    path: str
    nulls: tuple[str, ...] = DEFAULT_NULLS
    words: Mapping[str, str] = field(default_factory=dict)
    workbook: bool = False
    row_means: str = "record"
    trimmed: bool = False
    staged: bool = False
    """Whether the relation has the cell's text as a column of its own (see `read_columns`)."""

    @property
    def raw(self) -> str:
        """SQL of the cell as it is."""
        return quoted(self.name)

    @property
    def is_text(self) -> bool:
        """Whether cells must be read as texts: they are texts, or the mapping replaces words in them."""
        return self.type.startswith(("VARCHAR", "ENUM", "JSON", "BLOB")) or bool(self.words)

    @property
    def is_number(self) -> bool:
        """Whether cells are whole or decimal numbers or floats."""
        return not self.words and (self.is_whole or self.is_float or self.type.startswith("DECIMAL"))

    @property
    def is_whole(self) -> bool:
        """Whether cells are whole numbers of any width."""
        return not self.words and self.type in WHOLE_TYPES

    @property
    def is_float(self) -> bool:
        """Whether cells are floats."""
        return not self.words and self.type in ("DOUBLE", "FLOAT")

    @property
    def cleaned(self) -> str:
        """SQL of the cell's text without the blanks around it."""
        if self.staged:
            return quoted(f"cleaned:{self.canonical}")
        text = f"decode({self.raw})" if self.type == "BLOB" else f"({self.raw}::VARCHAR)"
        if self.trimmed and self.type == "VARCHAR":
            return text
        # To trim takes a microsecond with so many blanks, and hardly a cell needs it.
        blank = f"contains({literal(BLANKS)}, {text}[1]) OR contains({literal(BLANKS)}, {text}[-1])"
        return f"CASE WHEN {blank} THEN trim({text}, {literal(BLANKS)}) ELSE {text} END"

    @property
    def text(self) -> str:
        """SQL of the cell's text: words replaced, NULL where it is empty or a word for a missing value."""
        return quoted(f"text:{self.canonical}") if self.staged else self.text_of(self.cleaned)

    def text_of(self, cleaned: str) -> str:
        """SQL of the text of a cell that was cleaned before."""
        replaced = f"CASE WHEN {self.is_null_word(cleaned)} THEN NULL ELSE {cleaned} END"
        if not self.words:
            return replaced
        cases = " ".join(f"WHEN {literal(theirs)} THEN {literal(ours)}" for theirs, ours in self.words.items())
        return f"CASE {cleaned} {cases} ELSE {replaced} END"

    @property
    def ignored(self) -> str:
        """SQL of whether the mapping leaves the row out."""
        left_out = [theirs for theirs, ours in self.words.items() if ours == IGNORE]
        if not left_out:
            return "false"
        return f"coalesce({self.cleaned} IN ({', '.join(map(literal, left_out))}), false)"

    def is_null_word(self, cleaned: str) -> str:
        """SQL of whether a cleaned text stands for a missing value. An empty one always does."""
        words = sorted({"", *(word.lower() for word in self.nulls)})
        longest = max(map(len, words))
        # Most cells are longer than every word, and a length is cheaper than a text in lower case. It is a list, since
        # for IN DuckDB would join every row with a table of the words.
        is_one = f"list_contains([{', '.join(map(literal, words))}], lower({cleaned}))"
        return f"(CASE WHEN length({cleaned}) <= {longest} THEN {is_one} ELSE false END)"

    def null_words(self) -> str:
        """SQL of how many cells hold a word for a missing value. Empty cells do not count."""
        if not self.is_text:
            return "0"
        replaced = f" AND {self.cleaned} NOT IN ({', '.join(map(literal, self.words))})" if self.words else ""
        return f"count(*) FILTER ({self.is_null_word(self.cleaned)} AND {self.cleaned} <> ''{replaced})"

    def first(self, condition: str) -> tuple[str, str] | None:
        """The place and the text of the first row where `condition` holds."""
        found = self.connection.execute(
            f"SELECT _file, _row, {self.raw}::VARCHAR FROM {self.relation} WHERE {condition} "
            "ORDER BY _file, _row LIMIT 1"
        ).fetchone()
        return None if found is None else (self.place(found[0], found[1]), shown(str(found[2])))

    def place(self, file: str, row: int) -> str:
        """Where a row is, for an error."""
        return f"{'line' if self.row_means == 'line' else 'row'} {row} of {file}"

    def refuse(self, problem: str, condition: str | None = None) -> ContractError:
        """An error about this column that names the first row where `condition` holds, with its value."""
        found = self.first(condition) if condition is not None else None
        value = f" (got {found[1]})" if found is not None else ""
        problem = f"{self.path}, column {self.name!r}: {problem}{value}"
        return ContractError(self.table, problem, column=self.canonical, row=found[0] if found is not None else None)


class Rule(Protocol):
    """How one kind of value is read."""

    @property
    def column(self) -> Column:
        """The column that is read."""

    def questions(self) -> dict[str, str]:
        """Aggregates over the column, by name."""

    def reading(self, facts: Facts) -> Reading:
        """The SQL that reads the column.

        Raises:
            ContractError: The column as a whole cannot be read, or in two ways; names rows, values and the remedy.
        """


def read_columns(rules: Mapping[str, Rule]) -> Readings:
    """The readings of columns of one relation, after one scan of it.

    Creates a view beside the relation, in which every column's text is computed once.

    Args:
        rules: Canonical column -> its rule. At least one; all columns are of one relation.

    Raises:
        ContractError: A column cannot be read; see the rules.
    """
    relation = _stage([rule.column for rule in rules.values()])
    staged = {
        name: replace(rule, column=replace(rule.column, relation=relation, staged=True))  # type: ignore[type-var]
        for name, rule in rules.items()
    }
    asked = [(name, question, sql) for name, rule in staged.items() for question, sql in rule.questions().items()]
    answers = ask(next(iter(staged.values())).column, [sql for _, _, sql in asked])
    facts: dict[str, dict[str, Any]] = {name: {} for name in rules}
    for (name, question, _), answer in zip(asked, answers, strict=True):
        facts[name][question] = answer
    return Readings(relation, {name: rule.reading(facts[name]) for name, rule in staged.items()})


def _stage(columns: Sequence[Column]) -> str:
    """Create a view of the columns' relation with their texts, and return its name.

    Numbers have texts, too: an age of 33 may be read as a text. DuckDB computes only those that are used.
    """
    first = columns[0]
    cleaned = ", ".join(["*", *(f"{column.cleaned} AS {quoted(f'cleaned:{column.canonical}')}" for column in columns)])
    read = ["*"]
    for column in columns:
        text = column.text_of(quoted(f"cleaned:{column.canonical}"))
        read.append(f"{text} AS {quoted(f'text:{column.canonical}')}")
    view = f"{first.relation}_texts"
    first.connection.execute(
        f"CREATE OR REPLACE VIEW {view} AS SELECT {', '.join(read)} FROM (SELECT {cleaned} FROM {first.relation})"
    )
    return view


def ask(column: Column, aggregates: list[str]) -> tuple[Any, ...]:
    """The aggregates over a column's relation."""
    if not aggregates:
        return ()
    return column.connection.execute(f"SELECT {', '.join(aggregates)} FROM {column.relation}").fetchone() or ()
