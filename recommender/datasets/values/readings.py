"""What columns become: SQL of their values, and of what is wrong with a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from recommender.errors import LONGEST_VALUE


@dataclass(frozen=True)
class Reading:
    """What a column becomes, as SQL over the relation of its `Readings`.

    Attributes:
        raw: The canonical value before `keeps`. NULL where the cell is empty or cannot be read.
        keeps: SQL of whether a value is allowed, with {} for the value. None: every value is.
        text: SQL of the cell, for its problem. None where every filled cell is read.
        advice: The problem of a cell that cannot be read, without its text: what stands before it and after it.
        ignored: True where the mapping leaves the row out on purpose.
        null_words: Cells with a word that stands for a missing value, such as NULL or n/a.
        found: How the column is written, for a draft or the manifest, such as {"format": "%d.%m.%Y"}.
    """

    raw: str
    keeps: str | None = None
    text: str | None = None
    advice: tuple[str, str] = ("", "")
    ignored: str = "false"
    null_words: int = 0
    found: Mapping[str, str] = field(default_factory=dict)

    @property
    def value(self) -> str:
        """SQL of the canonical value. NULL where the cell is empty, cannot be read, or is not allowed."""
        return self.kept(self.raw)

    @property
    def problem(self) -> str:
        """SQL of a sentence with the value and what to do. NULL where the cell is empty or was read."""
        return self.problem_of(self.value, self.text or "NULL")

    def kept(self, raw: str) -> str:
        """SQL of a value that was computed as `raw`, NULL where it is not allowed."""
        return raw if self.keeps is None else f"CASE WHEN {self.keeps.format(raw)} THEN {raw} END"

    def problem_of(self, value: str, text: str) -> str:
        """SQL of the problem of a cell whose value and text were computed before."""
        if self.text is None:
            return "NULL::VARCHAR"
        before, after = map(literal, self.advice)
        return (
            f"CASE WHEN {value} IS NULL AND {text} IS NOT NULL AND NOT {self.ignored} "
            f"THEN {before} || {text} || {after} END"
        )


@dataclass(frozen=True)
class Readings:
    """The readings of a relation's columns.

    Attributes:
        relation: A view of the relation with the texts of the columns computed once. All SQL is over it.
        of: Canonical column -> its reading.
    """

    relation: str
    of: Mapping[str, Reading]

    def query(self, *own: str) -> str:
        """SQL of the rows: `own` columns, the canonical columns, `_reason` (empty where readable) and `_ignored`.

        Every value is computed once: texts in the view, values here, then what depends on both.
        """
        inner = [*own]
        for name, reading in self.of.items():
            inner.append(f"{reading.raw} AS {quoted(f'raw:{name}')}")
            if reading.text is not None:
                inner.append(f"{reading.text} AS {quoted(f'cell:{name}')}")
            if reading.ignored != "false":
                inner.append(f"{reading.ignored} AS {quoted(f'ignored:{name}')}")
        outer, reasons, ignored = [*own], [], []
        for name, reading in self.of.items():
            value = reading.kept(quoted(f"raw:{name}"))
            outer.append(f"{value} AS {quoted(name)}")
            left_out = quoted(f"ignored:{name}") if reading.ignored != "false" else "false"
            ignored += [left_out] if left_out != "false" else []
            if reading.text is not None:
                reasons.append(replace(reading, ignored=left_out).problem_of(value, quoted(f"cell:{name}")))
        outer.append(f"concat_ws('; ', {', '.join(reasons)}) AS _reason" if reasons else "'' AS _reason")
        outer.append(f"{' OR '.join(ignored) or 'false'} AS _ignored")
        return f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)} FROM {self.relation})"


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL text."""
    return "'" + text.replace("'", "''") + "'"


def shown(text: str) -> str:
    """A value for an error message."""
    return repr(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…")
