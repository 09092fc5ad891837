"""Finds two spellings of one identifier across all tables: `17` beside `17.0` or `0017`, `ab` beside `AB`.

Two spellings would be two users, with half of a history each. Which differences may be two identifiers after all, the
mapping says: `identifiers = "exact"` in [source] accepts all but `.0`, and `identifiers = "lower"` merges letter case
before this search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

import duckdb

from recommender.datasets.values.readings import literal, quoted, shown
from recommender.errors import ContractError

INNER_BLANKS = "[\\s\u00a0\u3000]+"
FULL_WIDTH = "".join(chr(code) for code in range(0xFF01, 0xFF5F))
"""Full-width forms of the printable ASCII characters, as Chinese and Japanese keyboards write them."""
ASCII = "".join(chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F))
"""Full-width forms lie 65,248 code points above the ASCII characters that they stand for (Unicode)."""
REMEDIES = {
    ".0": "a program wrote one of them as a float; export the column as integers or text",
    "letter case": 'write identifiers = "lower" in [source] if they are one, identifiers = "exact" if they are two',
    "leading zeros": 'export both columns alike, or write identifiers = "exact" in [source] if they are two',
    "blanks": 'take the blanks out of the export, or write identifiers = "exact" in [source] if they are two',
    "full-width characters": 'write both alike, or write identifiers = "exact" in [source] if they are two',
    "how accents are encoded": 'write both in Unicode form NFC, or identifiers = "exact" in [source] if they are two',
}
"""What tells two spellings apart -> what to do."""


@dataclass(frozen=True)
class Identifiers:
    """One column of read identifiers.

    Attributes:
        kind: What they identify: "users", "items", "campaigns". Spellings are compared within a kind.
        table: The canonical table, for errors.
        column: The canonical column, which `relation` has beside `_file` and `_row`.
        relation: A DuckDB table or view.
        row_means: What its `_row` counts, as in `reading.RawTable`.
    """

    kind: str
    table: str
    column: str
    relation: str
    row_means: str = "record"


def collisions(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Identifiers], *, identifiers: str | None = None
) -> None:
    """Check that no two spellings of one kind's identifiers are likely to mean the same.

    Args:
        connection: Where the relations are.
        sources: Every column of identifiers of every table.
        identifiers: The mapping's `source.identifiers`. None if it does not say.

    Raises:
        ContractError: Two spellings differ only by letter case, `.0`, leading zeros, blanks inside, full-width
            characters or the encoding of accents (é as one character or as two). Names both, their files and rows,
            how many there are, and the remedy.
    """
    for kind in dict.fromkeys(source.kind for source in sources):
        of_kind = [source for source in sources if source.kind == kind]
        union = " UNION ALL ".join(
            f"SELECT {quoted(one.column)} AS id FROM {one.relation} WHERE {quoted(one.column)} IS NOT NULL"
            for one in of_kind
        )
        found = connection.execute(
            f"SELECT min(id), max(id), count(*) OVER () FROM (SELECT DISTINCT id FROM ({union})) "
            f"GROUP BY {_folded('id', identifiers)} HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
        ).fetchone()
        if found is not None:
            raise _refuse(connection, kind, of_kind, *found)


def _folded(text: str, identifiers: str | None) -> str:
    """SQL of a key that is equal for spellings that may mean the same."""
    if identifiers == "exact":
        return f"regexp_replace({text}, '^([+-]?\\d+)\\.0+$', '\\1')"
    narrow = f"nfc_normalize(translate({text}, {literal(FULL_WIDTH)}, {literal(ASCII)}))"
    # Only texts with more bytes than characters can have such characters, and to translate takes microseconds.
    plain = f"lower(CASE WHEN strlen({text}) = length({text}) THEN {text} ELSE {narrow} END)"
    plain = f"regexp_replace({plain}, '{INNER_BLANKS}', '', 'g')"
    plain = f"regexp_replace({plain}, '^([+-]?\\d+)\\.0+$', '\\1')"
    return f"regexp_replace({plain}, '^0+(\\d+)$', '\\1')"


def _refuse(
    connection: duckdb.DuckDBPyConnection, kind: str, sources: Sequence[Identifiers], one: str, other: str, number: int
) -> ContractError:
    difference = _difference(one, other)
    places = [_place(connection, sources, spelling) for spelling in (one, other)]
    more = f"; {number:,} identifiers of {kind} have two spellings" if number > 1 else ""
    problem = (
        f"{shown(one)} ({places[0][1]}) and {shown(other)} ({places[1][1]}) differ only by {difference}, so they would "
        f"be two {kind}; {REMEDIES[difference]}{more}"
    )
    source = places[0][0]
    return ContractError(source.table, problem, column=source.column, row=places[0][1])


def _place(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Identifiers], spelling: str
) -> tuple[Identifiers, str]:
    """The column that has a spelling, and where it first does."""
    for source in sources:
        query = f"SELECT _file, _row FROM {source.relation} WHERE {quoted(source.column)} = ? ORDER BY ALL LIMIT 1"
        found = connection.execute(query, [spelling]).fetchone()
        if found is not None:
            return source, f"{'line' if source.row_means == 'line' else 'row'} {found[1]} of {found[0]}"
    raise AssertionError(f"{spelling!r} is in no source")


def _difference(one: str, other: str) -> str:
    """The first rule by which two spellings are alike."""
    one, other = normalize("NFC", one), normalize("NFC", other)
    if one == other:
        return "how accents are encoded"
    if one.lower() == other.lower():
        return "letter case"
    half = str.maketrans(FULL_WIDTH, ASCII)
    if one.translate(half).lower() == other.translate(half).lower():
        return "full-width characters"
    plain = ["".join(spelling.translate(half).lower().split()) for spelling in (one, other)]
    if plain[0] == plain[1]:
        return "blanks"
    without_point = [spelling.partition(".")[0] for spelling in plain]
    return ".0" if without_point[0] == without_point[1] else "leading zeros"
