"""A first mapping TOML from the headers and first rows of one's own files; what it could not find stands in comments."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from recommender.datasets.header_words import FILE_WORDS, GUESSED_KINDS, KIND_WORDS, MARKS, SYNONYMS, TIME_FORMATS
from recommender.datasets.parsing import open_file
from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError


@dataclass(frozen=True)
class _Guess:
    file: Path
    table: str
    columns: dict[str, str]
    formats: dict[str, str]
    kinds: dict[str, str | None]
    """The source's word -> the contract's kind; None: a person must decide."""
    unused: tuple[str, ...]


def draft(files: Sequence[Path]) -> str:
    """Mapping TOML for `files`, whose paths it keeps; comments say what a person must decide.

    Raises:
        SourceError: no file is given, or one is missing or unreadable; names it.
    """
    if not files:
        raise SourceError("no file is given to draft a mapping from")
    guesses = [_guess(file) for file in files]
    lines = [
        "# Drafted from the files' headers: read every line before you trust it.",
        "",
        "[source]",
        'time_zone = "UTC"   # DECIDE: the IANA zone of the shops, such as "Europe/Berlin"; times without a zone are local to it',
    ]
    for guess in sorted(guesses, key=lambda guess: list(CONTRACT).index(guess.table)):
        lines += ["", *_section(guess)]
    lines += ["", *_missing({guess.table for guess in guesses})]
    return "\n".join(lines).rstrip() + "\n"


def _plain(name: str) -> str:
    """`OrderDate`, `order date` and `ORDER-DATE` are all `order_date`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def _guess(file: Path) -> _Guess:
    with duckdb.connect() as connection:
        rows = open_file(connection, file)
        try:
            sample = rows.limit(200).to_arrow_table()
        except duckdb.Error as error:
            raise SourceError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None
    header = [name for name in sample.column_names if name != "_row"]
    found = {table: _match(table, header, sample) for table in CONTRACT}
    table = max(CONTRACT, key=lambda name: _likeness(name, file, found[name]))
    columns = found[table]
    formats = {
        column: known
        for column, source in columns.items()
        if pa.types.is_timestamp(CONTRACT[table].columns[column].dtype)
        and (known := _time_format(sample[source].to_pylist())) is not None
    }
    kinds = _kinds(table, sample[columns["kind"]].to_pylist()) if "kind" in columns else {}
    return _Guess(file, table, columns, formats, kinds, tuple(name for name in header if name not in columns.values()))


def _kinds(table: str, values: Iterable[object]) -> dict[str, str | None]:
    """The contract's kind for each word that is not one already."""
    allowed = CONTRACT[table].columns["kind"].values
    words = sorted({str(value).strip() for value in values if value is not None} - set(allowed))
    return {
        word: next(
            (kind for kind, hints in KIND_WORDS.items() if kind in allowed and any(h in word.lower() for h in hints)),
            None,
        )
        for word in words
    }


def _match(table: str, header: Sequence[str], sample: pa.Table) -> dict[str, str]:
    """Canonical column -> header, each header once: first the contract's own names, then synonyms, the likeliest first.

    A header is taken as `kind` only if one of its words hints at a kind of the contract: `type` may be anything.
    """
    free = {_plain(name): name for name in header}
    found = {column: free.pop(column) for column in CONTRACT[table].columns if column in free}
    own = {"users": "user_id", "items": "item_id", "campaigns": "campaign_id"}.get(table)
    for column in CONTRACT[table].columns:
        synonyms = (*SYNONYMS.get(column, ()), *(("id", "number", "no", "key") if column == own else ()))
        match = next((name for name in synonyms if name in free), None)
        if column in found or match is None:
            continue
        values = sample[free[match]].to_pylist()
        known = CONTRACT[table].columns[column].values
        if column == "kind" and not (set(values) & set(known) or any(_kinds(table, values).values())):
            continue
        found[column] = free.pop(match)
    return {column: found[column] for column in CONTRACT[table].columns if column in found}


def _likeness(table: str, file: Path, columns: dict[str, str]) -> float:
    """How much a file looks like a table: the columns that mark it, those it needs, and the file's name."""
    needed = [
        name
        for name, column in CONTRACT[table].columns.items()
        if column.required and name not in ("event_id", "kind", "targeted_at")
    ]
    marks = sum(column in columns for column in MARKS[table]) / len(MARKS[table])
    named = max((len(word) for word in FILE_WORDS[table] if word in _plain(file.stem)), default=0)
    by_name = 0.6 + 0.02 * named if named else 0.0
    return marks + by_name - 0.7 * sum(column not in columns for column in needed) + 0.1 * len(columns)


def _time_format(values: Iterable[object]) -> str | None:
    """The format of texts that are no ISO 8601 times; None: none is needed, or none fits."""
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
        for known in TIME_FORMATS:
            read = connection.execute(
                "SELECT count(try_strptime(t, ?)) FROM (SELECT unnest(?) AS t)", [known, texts]
            ).fetchone()
            if read == (len(texts),):
                return known
    return None


def _section(guess: _Guess) -> list[str]:
    contract = CONTRACT[guess.table].columns
    lines = [f"[[tables.{guess.table}]]   # {CONTRACT[guess.table].meaning}", f"file = {_text(str(guess.file))}"]
    renamed = {column: source for column, source in guess.columns.items() if column != source}
    if renamed:
        lines.append(
            f"columns = {{ {', '.join(f'{column} = {_text(source)}' for column, source in renamed.items())} }}"
        )
    if guess.formats:
        lines.append(
            f"formats = {{ {', '.join(f'{column} = {_text(known)}' for column, known in guess.formats.items())} }}"
        )
        if any(known.startswith(("%m/%d", "%d/%m")) for known in guess.formats.values()):
            lines.append("# CHECK: whether the day or the month comes first")
    if "kind" in contract and "kind" not in guess.columns:
        kinds = ", ".join(contract["kind"].values)
        lines.append(f'constants = {{ kind = "{GUESSED_KINDS[guess.table]}" }}   # DECIDE: one of {kinds}')
    elif guess.kinds:
        pairs = ", ".join(f"{_text(word)} = {_text(kind or '?')}" for word, kind in guess.kinds.items())
        kinds = ", ".join(contract["kind"].values)
        lines.append(f"values = {{ kind = {{ {pairs} }} }}   # CHECK: each is one of {kinds}")
    for column, wanted in contract.items():
        if wanted.required and column not in guess.columns and column not in ("kind", "event_id", "targeted_at"):
            lines.append(f"# MISSING: {column} ({wanted.meaning}): no header looks like it; this table needs it")
    optional = [column for column, wanted in contract.items() if not wanted.required and column not in guess.columns]
    if optional:
        lines.append(f"# not found, not needed: {', '.join(optional)}")
    if guess.unused:
        lines.append(f"# in the file, not used: {', '.join(name.replace(chr(10), ' ') for name in guess.unused)}")
    return lines


def _missing(tables: set[str]) -> list[str]:
    lines = [
        f"# MISSING: no file looks like {name} ({CONTRACT[name].meaning})"
        for name in ("events", "campaigns", "campaign_items")
        if name not in tables
    ]
    if not tables & {"targets", "participations"}:
        lines.append("# MISSING: no file looks like targets or participations; one of them is needed")
    derived = [name for name in ("users", "items", "targets", "participations") if name not in tables]
    return [*lines, *([f"# Derived from the others, where they can be: {', '.join(derived)}"] if derived else [])]


def _text(value: str) -> str:
    """A TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 else c for c in escaped) + '"'
