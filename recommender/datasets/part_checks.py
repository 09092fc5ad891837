"""Checks of a part's rows once they are read: words that nobody knows, and too many rows that cannot be read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from recommender.datasets.contract import MAY_BE_EMPTY
from recommender.datasets.reading import RawTable
from recommender.datasets.tables import CONTRACT
from recommender.datasets.values import Readings
from recommender.datasets.values.readings import literal, quoted
from recommender.errors import ContractError

MAX_UNREADABLE_SHARE = 0.01
"""Chosen by hand: above one row in a hundred the column's format or dtype is wrong, so reading fails. Below, rows are
set aside."""
SHOWN_WORDS = 20
"""Unknown words that an error lists with their counts, the commonest first. Chosen by hand."""


@dataclass(frozen=True)
class PartRows:
    """The part's raw rows and where each canonical column comes from."""

    raw: RawTable
    place: str
    """What an error calls the part's SQL, such as `mapping.toml: tables.events`."""

    def row(self, number: int, file: str) -> str:
        """What an error calls a row."""
        return f"{'line' if self.raw.row_means == 'line' else 'row'} {number} of {file}"


def check_words(connection: duckdb.DuckDBPyConnection, own: PartRows, table: str, readings: Readings) -> None:
    """Raise where a column with a fixed set of words holds another: such rows must not vanish."""
    for column, reading in readings.of.items():
        if not reading.found.get("unknown"):
            continue
        allowed = CONTRACT[table].columns[column].values
        unknown = connection.execute(
            f"SELECT {cleaned_sql(column)}, count(*), min(_row), arg_min(_file, _row) "
            f"FROM ({readings.query('_file', '_row', cleaned_sql(column))}) "
            f"WHERE NOT _ignored AND contains(_reason, {literal(f'{column}: unknown word')}) "
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        listed = ", ".join(f"{word!r} ({rows:,} rows)" for word, rows, _, _ in unknown[:SHOWN_WORDS])
        more = f" and {len(unknown) - SHOWN_WORDS} more" if len(unknown) > SHOWN_WORDS else ""
        pairs = ", ".join(_pair(word, allowed) for word, *_ in unknown[:SHOWN_WORDS])
        problem = (
            f"{own.raw.path} has words that the contract lacks: {listed}{more}. Say what each means in the "
            f"mapping: values = {{ {column} = {{ {pairs} }} }}, each one of {', '.join(allowed)}, or "
            '"ignore" to leave its rows out'
        )
        raise ContractError(table, problem, column=column, row=own.row(*unknown[0][2:]))


def _pair(word: str, known: Sequence[str]) -> str:
    """A line of `values` for an unknown word, with the contract's word where one looks alike."""
    low = word.lower()
    alike = [one for one in known if one.startswith(low[:3]) or one in low or (one == "return" and "refund" in low)]
    return f"{json.dumps(word, ensure_ascii=False)} = {json.dumps((alike or ['…'])[0], ensure_ascii=False)}"


def check_unreadable_share(connection: duckdb.DuckDBPyConnection, rows: str, own: PartRows, table: str) -> int:
    """Raise if the part has no rows, or too many that cannot be read. Return how many cannot."""
    counts = "count(*), count(*) FILTER (_rule IS NULL), count(*) FILTER (_reason <> '' AND _rule IS NULL)"
    num_read, num_rows, num_unreadable = connection.execute(f"SELECT {counts} FROM {rows}").fetchone() or (0, 0, 0)
    if num_rows == 0 and table not in MAY_BE_EMPTY:
        problem = f'"ignore" leaves out all {num_read:,} rows of' if num_read else "no rows in"
        raise ContractError(table, f"{problem} {own.raw.path}")
    if num_unreadable > MAX_UNREADABLE_SHARE * num_rows:
        row, file, reason = connection.execute(
            f"SELECT _row, _file, _reason FROM {rows} WHERE _reason <> '' AND _rule IS NULL ORDER BY _file, _row"
        ).fetchone() or (0, "", "")
        column, _, problem = str(reason).partition(": ")
        wanted = CONTRACT[table].columns.get(column) or CONTRACT["participations"].columns[column]
        problem = (
            f"{problem} (wanted: {wanted.dtype}). {num_unreadable:,} of {num_rows:,} rows of {own.raw.path} cannot be "
            "read, which is too many to set them aside"
        )
        raise ContractError(table, problem, column=column, row=own.row(row, file))
    return int(num_unreadable)


def cleaned_sql(column: str) -> str:
    """SQL of a cell's own text in the relation of `Readings`."""
    return quoted(f"cleaned:{column}")
