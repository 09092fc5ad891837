"""What to write in the mapping where a figure of the rows shows a habit of the source rather than an accident."""

import re
from collections.abc import Mapping

MISSING = re.compile(r"(\w+): null, where a value is needed")
"""The reason with which `contract.row_problems` sets a row aside that lacks a value."""
SIGNED = re.compile(r"below_zero_(\w*discount)")
"""Figures of money taken off. Many shops write it with a minus."""


def remedy_for_rows(reasons: Mapping[str, int]) -> str:
    """Words for rows that were set aside because a value is missing, such as orders of guests. Empty for others.

    Args:
        reasons: kind of reason -> rows.
    """
    columns = dict.fromkeys(found[1] for reason in reasons if (found := MISSING.search(reason)))
    named = ", ".join(columns)
    return f'; leave rows without {named} out on purpose: where = "… IS NOT NULL" in the mapping' if named else ""


def cause_of_figure(figure: str, observed: float | None) -> str:
    """Words for a discount below zero. Empty for other figures.

    Args:
        figure: the figure's name in the suite of its table.
        observed: its value, a number of rows.
    """
    found = SIGNED.fullmatch(figure)
    if found is None:
        return ""
    return (
        f"{observed or 0:,.0f} rows have a {found[1]} below zero: does the shop write it with a minus? "
        f"scale = {{ {found[1]} = -1 }} in the mapping turns the sign"
    )
