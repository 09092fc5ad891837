"""What a draft sees in files: for each column its name, its values and how often they repeat.

A file is looked at as a view in a DuckDB database on disk. Values are surveyed on a sample; keys and words of kinds are
counted over all rows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb

from recommender.datasets.draft.headers import WITHOUT_KEY, entity_of, is_bare_key, meanings
from recommender.datasets.reading.raw import quoted
from recommender.datasets.values import Column, Survey, survey

SAMPLE_ROWS = 20_000
"""Rows in which values are surveyed: enough to see every mark and format that is not rare. Chosen by hand."""
ENDINGS = re.compile(r"(\.(csv|tsv|txt|jsonl?|ndjson|parquet|xlsx?|xlsb|xlsm|ods|gz|zst|zip|bz2))+$", re.IGNORECASE)
"""Endings of names of files."""
FEWEST_ROWS = 5
"""Rows above which a column of one value is constant by no accident. Chosen by hand."""
MOST_WORDS = 200
"""Different values up to which all are counted: a shop has tens of kinds and statuses. Chosen by hand."""
LINE = "line"
"""What a query calls one record of a list."""
FORMAT = re.compile(r'formats = \{ [^=]+ = "([^"]+)" \}')
"""A format in the question that reading a column asks."""
MOSTLY = 0.9
"""Share of values that must be of a kind for a column to count as of it: a few are always damaged. By hand."""


@dataclass
class ColumnEvidence:
    """One column of a file.

    Attributes:
        name: its name in the file. A field inside a record has the record's name before a point.
        meanings: what its name may mean -> its rank, 0 the likeliest.
        rows, filled, distinct: rows of the file, cells with a value, and different values, over the whole file.
    """

    file: "FileEvidence"
    name: str
    meanings: dict[str, int]

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Filled cells and different values."""
        query = f"SELECT count({self.text}), count(DISTINCT {self.text}) FROM {self.file.view}"
        filled, distinct = self.file.connection.execute(query).fetchone() or (0, 0)
        return filled, distinct

    @property
    def filled(self) -> int:
        """Cells that hold a value."""
        return self.counts[0]

    @property
    def distinct(self) -> int:
        """Different values."""
        return self.counts[1]

    @property
    def filled_share(self) -> float:
        """Share of rows with a value."""
        return self.filled / self.file.rows if self.file.rows else 0.0

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value of its own. A few repeated rows do not count."""
        return self.filled > 0 and self.filled_share > MOSTLY and self.distinct >= 0.99 * self.filled

    @property
    def text(self) -> str:
        """SQL of the value as a text without blanks around it, NULL where there is none."""
        return self._column.text if self._column.is_text else f"{quoted(self.name)}::VARCHAR"

    @property
    def _column(self) -> Column:
        return Column(
            connection=self.file.connection,
            relation=self.file.sample,
            name=self.name,
            type=self.file.types[self.name],
            table="draft",
            canonical=self.name,
            path=str(self.file.path),
        )

    @cached_property
    def seen(self) -> Survey:
        """What the sample's values are."""
        return survey(self._column)

    @property
    def is_time(self) -> bool:
        """Whether the values are times that are read without help, or need only an answer about day and month."""
        return self.seen.times.share >= MOSTLY or bool(self.possible_formats)

    @cached_property
    def possible_formats(self) -> list[str]:
        """The formats between which no value decides, as the question about the column names them."""
        found = [one for one in FORMAT.findall(self.seen.times.question or "") if one.startswith("%")]
        return found if len(found) > 1 else []

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        numbers = self.seen.numbers
        return numbers.share >= MOSTLY or (numbers.question is not None and "decimal" in numbers.question)

    @cached_property
    def words(self) -> dict[str, int]:
        """Different values of the whole file -> their rows, the commonest first. At most MOST_WORDS."""
        found = self.file.connection.execute(
            f"SELECT {self.text} AS word, count(*) AS n FROM {self.file.view} WHERE {self.text} IS NOT NULL "
            f"GROUP BY 1 ORDER BY n DESC, word LIMIT {MOST_WORDS}"
        ).fetchall()
        return dict(found)

    @cached_property
    def blanks(self) -> list[str]:
        """Texts that stand for no value, as the file writes them: empty ones, NULL."""
        raw = f"{quoted(self.name)}::VARCHAR"
        found = self.file.connection.execute(
            f"SELECT DISTINCT {raw} FROM {self.file.view} WHERE {self.text} IS NULL AND {raw} IS NOT NULL ORDER BY 1"
        ).fetchall()
        return [text for (text,) in found]

    @cached_property
    def differs_by_case(self) -> bool:
        """Whether two values differ only by letter case, as 85123A and 85123a."""
        query = f"SELECT count(DISTINCT lower({self.text})) FROM {self.file.view}"
        (merged,) = self.file.connection.execute(query).fetchone() or (0,)
        return int(merged) < self.distinct

    @cached_property
    def numbers(self) -> tuple[float, float, float, float]:
        """Of the sample: smallest and largest number, share of whole ones, share of negative ones among those not 0."""
        value = f"TRY_CAST(replace({quoted(self.name)}::VARCHAR, ',', '.') AS DOUBLE)"
        query = (
            f"SELECT min(x), max(x), avg((x = trunc(x))::INT), avg((x < 0)::INT) FILTER (x <> 0) "
            f"FROM (SELECT {value} AS x FROM {self.file.sample}) WHERE x IS NOT NULL"
        )
        found = self.file.connection.execute(query).fetchone() or (None,) * 4
        smallest, largest, whole, negative = (0.0 if one is None else float(one) for one in found)
        return smallest, largest, whole, negative


@dataclass
class FileEvidence:
    """One file, several of one shape, or records that were flattened.

    Attributes:
        connection: where the views are.
        path: as it was given.
        name: what a query calls it.
        view: all rows; `_file`, `_row` and the columns.
        sample: SAMPLE_ROWS of them.
        types: column -> DuckDB type.
        rows: number of rows.
        paths: column -> SQL of it over the file, where it lies inside records.
        lines: SQL of the list of records of which each row here is one. None: a row is a row of the file.
        form: what the mapping must say to open the file, such as `encoding` and `header`.
        comments: what a person must check about how it was opened.
    """

    connection: duckdb.DuckDBPyConnection
    path: Path
    name: str
    view: str
    sample: str
    types: Mapping[str, str]
    rows: int
    paths: dict[str, str] = field(default_factory=dict)
    lines: str | None = None
    derived: str | None = None
    """SQL over `name` that adds a column, such as a running sum."""
    acts: "FileEvidence | None" = None
    """The same file with a row for each act in its list of acts."""
    has_lists: bool = False
    """Whether `acts` holds the lists of items of some of its rows."""
    form: dict[str, object] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    extra: dict[str, dict[str, int]] = field(default_factory=dict)
    """Column -> further meanings, found by values."""
    day_first: bool | None = None
    """Whether other columns of the files write the day before the month. None: none shows it."""
    used: set[str] = field(default_factory=set)
    """Columns that some table of the draft uses."""
    taken: bool = False
    """Whether a table of the draft is made of it."""

    @cached_property
    def columns(self) -> dict[str, ColumnEvidence]:
        """Name -> column."""
        return {name: ColumnEvidence(self, name, dict(meanings_of(name))) for name in self.types}

    @property
    def stem(self) -> str:
        """The file's name without the endings that say how it is written."""
        return ENDINGS.sub("", self.path.name)

    @property
    def source(self) -> str:
        """SQL of the file's rows, for FROM."""
        if self.derived is not None:
            return f"({self.derived}) AS {self.name}"
        if self.lines is not None:
            return f"(SELECT *, unnest({self.lines}) AS {LINE} FROM {self.name}) AS {self.name}"
        return self.name

    def candidates(self, meaning: str) -> list[ColumnEvidence]:
        """Columns that may have a meaning and hold any value, the likeliest first."""
        found = [
            # The same value in every row says nothing, whatever the name: when a table was loaded.
            (column.distinct == 1 and self.rows > FEWEST_ROWS, column.meanings[meaning], place, column)
            for place, column in enumerate(self.columns.values())
            if meaning in column.meanings and column.filled
        ]
        return [column for *_, column in sorted(found, key=lambda one: one[:3])]

    def first(self, meaning: str) -> ColumnEvidence | None:
        """The likeliest column of a meaning."""
        return next(iter(self.candidates(meaning)), None)

    def has(self, *wanted: str) -> bool:
        """Whether there is a column for each meaning."""
        return all(self.first(one) is not None for one in wanted)


def meanings_of(name: str) -> dict[str, int]:
    """Meanings of a column, or of the last part of a field's name where the whole name has none."""
    found = meanings(name)
    if found or "." not in name:
        return found
    *path, leaf = name.split(".")
    if not is_bare_key(leaf):
        return meanings(leaf)
    # relationships.profile.data.id is the key of the nearest thing that its path names.
    entity = next((entity for part in reversed(path) if (entity := entity_of(part)) is not None), None)
    return {} if entity is None else {entity: WITHOUT_KEY}
