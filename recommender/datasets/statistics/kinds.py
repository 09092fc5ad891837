"""Which kinds of event have which columns at all, so that a kind that never has one is not counted as missing it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recommender.datasets.tables import EVENT_KINDS

if TYPE_CHECKING:
    import duckdb

OF_KINDS = {
    **dict.fromkeys(("amount", "quantity", "discount", "coupon_discount", "basket_id", "store_id"), ("purchase",)),
    "rating": ("review",),
    "query": ("search",),
    "item_id": ("view", "click", "cart", "purchase", "review"),
}
"""The kinds of event among which a missing value of a column is counted. Others are counted among all events."""
LEAST_FILLED = 0.01
"""Share of a kind's rows with a value from which the kind has the column. Fewer are stray values. Chosen by hand."""


def kinds_with(connection: "duckdb.DuckDBPyConnection", columns: Sequence[str]) -> dict[str, list[str]]:
    """Optional column of the events -> the kinds among which a missing value counts. All of `OF_KINDS` if none has it.

    An opened e-mail names no item. Counted as missing, a mailing would look like a day without items.

    Args:
        connection: has the table `quarters` of `by_day`: kind, rows, and `column/`, the number of values.
        columns: the optional columns.
    """
    counts = "".join(f', sum("{column}/")' for column in columns)
    rows = connection.execute(
        f"SELECT kind, sum(rows){counts} FROM quarters WHERE kind IS NOT NULL GROUP BY 1"
    ).fetchall()
    found: dict[str, list[str]] = {}
    for place, column in enumerate(columns, start=2):
        asked = OF_KINDS.get(column, EVENT_KINDS)
        filled = {row[0] for row in rows if row[place] > LEAST_FILLED * row[1]}
        found[column] = [kind for kind in asked if kind in filled] or list(asked)
    return found
