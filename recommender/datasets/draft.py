"""Drafts a mapping TOML from the headers and first rows of a user's own files.

Comments in the draft mark what a person must decide, check or add.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from recommender.datasets.header_words import (
    DEFAULT_KINDS,
    FILE_WORDS,
    KIND_WORDS,
    MARKER_COLUMNS,
    SYNONYMS,
    TIME_FORMATS,
)
from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import open_file
from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError

SAMPLE_ROWS = 200
"""Rows of a file that are looked at: enough to see every time format and most kinds of events. Chosen by hand."""
DERIVED_COLUMNS = ("event_id", "kind", "targeted_at")
"""Required columns that a file may lack: ingestion derives them, or the draft gives `kind` as a constant."""


@dataclass(frozen=True)
class _Guess:
    """The table that one file seems to contain, with its columns."""

    file: Path
    table: str
    columns: dict[str, str]
    """Canonical column -> column of the file."""
    formats: dict[str, str]
    """Canonical column -> time format of its texts."""
    kinds: dict[str, str | None]
    """The source's word -> the contract's kind. None where a person must decide."""
    unused: tuple[str, ...]


def draft(files: Sequence[Path], folder: Path | None = None) -> str:
    """Draft the mapping TOML of `files`, naming them relative to `folder`, or without one by the paths given.

    Raises:
        SourceError: no file is given, or one is missing or unreadable; names it.
    """
    if not files:
        raise SourceError("no file is given to draft a mapping from; name at least one CSV or Parquet file")
    guesses = [_guess(file) for file in files]
    lines = [
        "# Drafted from the headers of the files. Check every line before you use it.",
        "",
        "[source]",
        "# DECIDE: the IANA time zone of the shops, such as Europe/Berlin. Times without a zone are read in it.",
        'time_zone = "UTC"',
    ]
    for guess in sorted(guesses, key=lambda guess: list(CONTRACT).index(guess.table)):
        lines += ["", *_section(guess, folder)]
    lines += ["", *_missing_tables({guess.table for guess in guesses})]
    return "\n".join(lines).rstrip() + "\n"


def _snake_case(name: str) -> str:
    """Turn `OrderDate`, `order date` and `ORDER-DATE` all into `order_date`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def _guess(file: Path) -> _Guess:
    """Choose the table that a file fits best, and its columns, time formats and kinds."""
    with TemporaryDirectory(prefix="recommender-draft-") as scratch, duckdb.connect() as connection:
        open_file(connection, file, FileFormat(), name="rows_of_file", scratch=Path(scratch))
        try:
            sample = (
                connection.sql("SELECT * EXCLUDE (_file, _row) FROM rows_of_file").limit(SAMPLE_ROWS).to_arrow_table()
            )
        except duckdb.Error as error:
            raise SourceError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None
    header = sample.column_names
    found = {table: _match_columns(table, header, sample) for table in CONTRACT}
    table = max(CONTRACT, key=lambda name: _score(name, file, found[name]))
    columns = found[table]
    formats = {
        column: time_format
        for column, source in columns.items()
        if pa.types.is_timestamp(CONTRACT[table].columns[column].dtype)
        and (time_format := _time_format(sample[source].to_pylist())) is not None
    }
    kinds = _match_kinds(table, sample[columns["kind"]].to_pylist()) if "kind" in columns else {}
    return _Guess(file, table, columns, formats, kinds, tuple(name for name in header if name not in columns.values()))


def _match_kinds(table: str, values: Iterable[object]) -> dict[str, str | None]:
    """Map each word of a source that is not a kind of the contract to the kind it seems to mean, or to None."""
    allowed = CONTRACT[table].columns["kind"].values
    words = sorted({str(value).strip() for value in values if value is not None} - set(allowed))
    return {
        word: next(
            (kind for kind, hints in KIND_WORDS.items() if kind in allowed and any(h in word.lower() for h in hints)),
            None,
        )
        for word in words
    }


def _match_columns(table: str, header: Sequence[str], sample: pa.Table) -> dict[str, str]:
    """Map canonical columns to columns of a file: first by the contract's own names, then by synonyms.

    A file's column is used at most once. A column counts as `kind` only if one of its values hints at a kind of the
    contract, since `type` may mean anything.
    """
    free = {_snake_case(name): name for name in header}
    found = {column: free.pop(column) for column in CONTRACT[table].columns if column in free}
    own = {"users": "user_id", "items": "item_id", "campaigns": "campaign_id"}.get(table)
    for column in CONTRACT[table].columns:
        synonyms = (*SYNONYMS.get(column, ()), *(("id", "number", "no", "key") if column == own else ()))
        match = next((name for name in synonyms if name in free), None)
        if column in found or match is None:
            continue
        values = sample[free[match]].to_pylist()
        allowed = CONTRACT[table].columns[column].values
        if column == "kind" and not (set(values) & set(allowed) or any(_match_kinds(table, values).values())):
            continue
        found[column] = free.pop(match)
    return {column: found[column] for column in CONTRACT[table].columns if column in found}


def _score(table: str, file: Path, columns: dict[str, str]) -> float:
    """Score how well a file fits a table: by its marker columns, its required columns and the file's name.

    The weights are chosen by hand. A missing required column costs more than a matching file name brings, and a longer
    matching word in the name counts more than a shorter one: `campaign_items.csv` is not `campaigns`.
    """
    needed = [
        name for name, column in CONTRACT[table].columns.items() if column.required and name not in DERIVED_COLUMNS
    ]
    markers = sum(column in columns for column in MARKER_COLUMNS[table]) / len(MARKER_COLUMNS[table])
    word_length = max((len(word) for word in FILE_WORDS[table] if word in _snake_case(file.stem)), default=0)
    by_name = 0.6 + 0.02 * word_length if word_length else 0.0
    return markers + by_name - 0.7 * sum(column not in columns for column in needed) + 0.1 * len(columns)


def _time_format(values: Iterable[object]) -> str | None:
    """Find the format that fits all texts. None if they are ISO 8601 and need no format, or if no format fits."""
    texts = [str(value).strip() for value in values if isinstance(value, str) and value.strip()]
    if not texts:
        return None
    if all(re.fullmatch(r"\d{10}", text) for text in texts):
        return "unix_s"
    if all(re.fullmatch(r"\d{13}", text) for text in texts):
        return "unix_ms"
    if all(re.match(r"\d{4}-\d\d?-\d\d?", text) for text in texts):
        return None
    with duckdb.connect() as connection:
        for time_format in TIME_FORMATS:
            parsed = connection.execute(
                "SELECT count(try_strptime(t, ?)) FROM (SELECT unnest(?) AS t)", [time_format, texts]
            ).fetchone()
            if parsed == (len(texts),):
                return time_format
    return None


def _section(guess: _Guess, folder: Path | None) -> list[str]:
    """Write the lines of one file."""
    contract = CONTRACT[guess.table].columns
    # A mapping's relative paths are relative to its own folder. An absolute path stays as it is.
    file = guess.file if folder is None or guess.file.is_absolute() else os.path.relpath(guess.file, folder)
    lines = [f"[[tables.{guess.table}]]   # {CONTRACT[guess.table].meaning}", f"file = {_toml_string(str(file))}"]
    renamed = {column: source for column, source in guess.columns.items() if column != source}
    if renamed:
        lines.append(f"columns = {_toml_table(renamed)}")
    if guess.formats:
        lines.append(f"formats = {_toml_table(guess.formats)}")
        if any(time_format.startswith(("%m/%d", "%d/%m")) for time_format in guess.formats.values()):
            lines.append("# CHECK: does the day or the month come first?")
    lines += _kind_lines(guess)
    for column, wanted in contract.items():
        if wanted.required and column not in guess.columns and column not in DERIVED_COLUMNS:
            lines.append(f"# MISSING: {column} ({wanted.meaning}): no column looks like it, and this table needs it")
    optional = [column for column, wanted in contract.items() if not wanted.required and column not in guess.columns]
    if optional:
        lines.append(f"# not found, not needed: {', '.join(optional)}")
    if guess.unused:
        lines.append(f"# in the file, not used: {', '.join(name.replace(chr(10), ' ') for name in guess.unused)}")
    return lines


def _kind_lines(guess: _Guess) -> list[str]:
    """Write how `kind` is found: as a constant, from the source's words, or not at all for a table without one."""
    contract = CONTRACT[guess.table].columns
    if "kind" not in contract:
        return []
    allowed = ", ".join(contract["kind"].values)
    if "kind" not in guess.columns:
        return [f'constants = {{ kind = "{DEFAULT_KINDS[guess.table]}" }}   # DECIDE: one of {allowed}']
    if guess.kinds:
        pairs = ", ".join(f"{_toml_string(word)} = {_toml_string(kind or '?')}" for word, kind in guess.kinds.items())
        return [f"values = {{ kind = {{ {pairs} }} }}   # CHECK: each is one of {allowed}"]
    return []


def _missing_tables(found: set[str]) -> list[str]:
    """Write which tables no file was found for, and which of those ingestion can derive."""
    lines = [
        f"# MISSING: no file looks like {name} ({CONTRACT[name].meaning})"
        for name in ("events", "campaigns", "campaign_items")
        if name not in found
    ]
    if not found & {"targets", "participations"}:
        lines.append("# MISSING: no file looks like targets or participations, and one of them is needed")
    derived = [name for name in ("users", "items", "targets", "participations") if name not in found]
    return [*lines, *([f"# Derived from the other tables where possible: {', '.join(derived)}"] if derived else [])]


def _toml_table(values: dict[str, str]) -> str:
    """Write an inline TOML table whose keys are canonical columns."""
    return f"{{ {', '.join(f'{key} = {_toml_string(value)}' for key, value in values.items())} }}"


def _toml_string(value: str) -> str:
    """Write a TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 else c for c in escaped) + '"'
