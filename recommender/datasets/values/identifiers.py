"""Reads identifiers of users, items, campaigns, coupons and baskets by one rule.

- An identifier is text, kept as it is written, leading zeros too. Blanks around it go.
- In a column of numbers (Parquet makes floats of integers with a gap) a whole number is written without `.0`.
- In a column of texts `17.0` is written `17` if every dotted value of the column is whole: a program printed floats.
  If one is not (`1.5`), all are kept.
- With `identifiers = "lower"` in [source] letter case does not count.
- Refused: floats too large to be exact, and texts such as 1.23457E+12, what Excel leaves of a long number.
"""

from dataclasses import dataclass

from recommender.datasets.values.column import Column, Facts
from recommender.datasets.values.readings import Reading

EXACT_BELOW = {"DOUBLE": 2**53, "FLOAT": 2**24}
"""A float holds every whole number below this one exactly (its mantissa has 53 or 24 bits), and not every one above."""
FLOAT_PATTERN = r"[+-]?\d+\.0+"
"""A whole number as programs print floats."""
DAMAGED_PATTERN = r"[+-]?\d(\.\d+)?[eE]\+\d+"
"""A long number in scientific notation: the digits that told identifiers apart are gone."""


@dataclass(frozen=True)
class Identifier:
    """The rule for a column of identifiers."""

    column: Column
    lower: bool = False

    def questions(self) -> dict[str, str]:
        """How many cells have a dot, are whole in spite of it, or lost digits."""
        column = self.column
        if column.is_float:
            too_large = f"abs({column.raw}) >= {EXACT_BELOW[column.type]} AND isfinite({column.raw})"
            return {"too_large": f"count(*) FILTER ({too_large})"}
        if not column.is_text:
            return {}
        text = column.cleaned
        return {
            "null_words": column.null_words(),
            "dotted": f"count(*) FILTER (contains({text}, '.'))",
            "whole": f"count(*) FILTER ({_is_whole(text)})",
            "damaged": f"count(*) FILTER ({_is_damaged(text)})",
        }

    def reading(self, facts: Facts) -> Reading:
        """Text, NULL where the cell is empty.

        Raises:
            ContractError: An identifier lost its digits; names the first row.
        """
        column = self.column
        if column.type.endswith("]") or column.type.startswith(("STRUCT", "MAP")):
            raise column.refuse(f"holds {column.type}, and an identifier is one value; name another column")
        if column.is_float:
            return self._of_floats(facts)
        if not column.is_text:
            whole = f"{column.raw} = trunc({column.raw})"
            value = f"{column.raw}::VARCHAR"
            if column.type.startswith("DECIMAL"):
                value = f"CASE WHEN {whole} THEN {column.raw}::HUGEINT::VARCHAR ELSE {value} END"
            return Reading(self._in_case(value))
        if facts["damaged"]:
            problem = (
                f"{facts['damaged']:,} identifiers are in scientific notation, as Excel writes long numbers, so their "
                "last digits are lost; export the column as text"
            )
            raise column.refuse(problem, _is_damaged(column.cleaned))
        value = column.text
        printed_floats = facts["dotted"] > 0 and facts["dotted"] == facts["whole"]
        if printed_floats:
            value = f"CASE WHEN {_is_whole(column.cleaned)} THEN split_part({column.cleaned}, '.', 1) ELSE {value} END"
        return Reading(
            self._in_case(value),
            ignored=column.ignored,
            null_words=facts["null_words"],
            found={"identifiers": "floats printed with .0"} if printed_floats else {},
        )

    def _of_floats(self, facts: Facts) -> Reading:
        column = self.column
        if facts["too_large"]:
            problem = (
                f"{facts['too_large']:,} identifiers are floats too large to tell one from the next; write them as "
                "integers or text"
            )
            raise column.refuse(problem, f"abs({column.raw}) >= {EXACT_BELOW[column.type]}")
        whole = f"{column.raw} = trunc({column.raw})"
        value = (
            f"CASE WHEN isnan({column.raw}) THEN NULL WHEN {whole} THEN {column.raw}::BIGINT::VARCHAR "
            f"ELSE {column.raw}::VARCHAR END"
        )
        return Reading(value, found={"identifiers": "floats"})

    def _in_case(self, value: str) -> str:
        return f"lower({value})" if self.lower else value


def _is_whole(text: str) -> str:
    return f"(CASE WHEN contains({text}, '.') THEN regexp_full_match({text}, '{FLOAT_PATTERN}') ELSE false END)"


def _is_damaged(text: str) -> str:
    return f"(CASE WHEN contains({text}, '+') THEN regexp_full_match({text}, '{DAMAGED_PATTERN}') ELSE false END)"
