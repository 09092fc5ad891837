"""Says what a column holds, without a mapping: evidence for a draft, and for a person who looks at a file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from recommender.datasets.mapping import EARLIEST, LATEST
from recommender.datasets.values.column import Column, Rule, ask, read_columns
from recommender.datasets.values.identifiers import Identifier
from recommender.datasets.values.numbers import Number
from recommender.datasets.values.times import Time
from recommender.errors import ContractError

COMMONEST = 20
"""Values that a survey lists, the commonest first: enough for every kind of event of a shop. Chosen by hand."""


@dataclass(frozen=True)
class As:
    """A column read by one rule.

    Attributes:
        share: Share of the filled cells that the rule reads. 0 where it refuses the column.
        found: What the rule found: `format`, `decimal`, `currency`, `percent`.
        question: Why the rule refuses the column, with what to write. None where it reads it.
    """

    share: float
    found: Mapping[str, str]
    question: str | None = None


@dataclass(frozen=True)
class Survey:
    """What a column holds.

    Attributes:
        rows: Rows of the relation.
        filled: Cells that are neither empty nor a word for a missing value.
        null_words: Cells with such a word.
        distinct: About how many different values there are (HyperLogLog, within some per cent).
        commonest: The commonest texts.
        identifiers, numbers, times: The column read by each rule.
    """

    rows: int
    filled: int
    null_words: int
    distinct: int
    commonest: tuple[str, ...]
    identifiers: As
    numbers: As
    times: As


def survey(column: Column, *, earliest: date = EARLIEST, latest: date = LATEST) -> Survey:
    """Survey a column by every rule, in a few scans.

    Args:
        column: The column. Its `canonical` only stands in the questions.
        earliest: The first plausible day.
        latest: The last plausible day.
    """
    text = column.text if column.is_text else f"{column.raw}::VARCHAR"
    rows, filled, null_words, distinct, commonest = ask(
        column,
        [
            "count(*)",
            f"count({text})",
            column.null_words(),
            f"approx_count_distinct({text})",
            f"approx_top_k({text}, {COMMONEST})",
        ],
    )
    return Survey(
        rows=rows,
        filled=filled,
        null_words=null_words,
        distinct=distinct,
        commonest=tuple(one for one in commonest or () if one is not None),
        identifiers=_read_as(Identifier(column), filled),
        numbers=_read_as(Number(column), filled),
        times=_read_as(Time(column, zone="UTC", earliest=earliest, latest=latest), filled),
    )


def _read_as(rule: Rule, filled: int) -> As:
    try:
        readings = read_columns({"it": rule})
    except ContractError as error:
        return As(0.0, {}, str(error))
    reading = readings.of["it"]
    (read,) = ask(replace(rule.column, relation=readings.relation), [f"count({reading.value})"])
    return As(read / filled if filled else 0.0, reading.found)
