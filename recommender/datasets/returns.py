"""Returns: what a shopper brought back is set against the purchases that it takes back.

A return is an event of the kind `return`, or a purchase with a negative quantity or amount. It takes back the most
recent earlier purchases of the same user and item, up to what was returned. That is counted in units where all lines of
that user and item have a quantity, else in money where all have an amount, else in lines.

A purchase that was taken back stays in the log with `returned_at` and `returned_share`, because a decision before the
return could not know of it. Features of later decisions leave it out, and it is no participation.
"""

from dataclasses import dataclass
from typing import Literal

import duckdb

RETURNED = ("quantity", "amount", "discount", "coupon_discount")
"""Columns that a return states with the sign of the source. The table holds them as positive numbers."""
MICRO = 1_000_000
"""Quantities are counted in millionths, so that sums of loose goods (0.35 kg) are exact."""


@dataclass(frozen=True)
class Returns:
    """What was found and done."""

    returns: int = 0
    """Events that are returns."""
    wholly: int = 0
    """Purchases taken back altogether."""
    partly: int = 0
    """Purchases taken back in part."""
    unmatched: int = 0
    """Returns without any earlier purchase of that user and item."""


def settle_returns(
    connection: duckdb.DuckDBPyConnection, columns: list[str], rule: Literal["net", "keep"], decisions: list[str]
) -> Returns:
    """Mark the purchases that were returned, in the view `events`, whose columns `columns` lists and may grow.

    The view must have `_key`, a BIGINT that is unique.
    """
    negative = [f"coalesce({column} < 0, false)" for column in ("quantity", "amount") if column in columns]
    is_return = " OR ".join(["kind = 'return'", *(f"(kind = 'purchase' AND {one})" for one in negative)])
    (returns,) = connection.execute(f"SELECT count(*) FROM events WHERE {is_return}").fetchone() or (0,)
    if not returns:
        return Returns()
    if rule == "keep":
        decisions.append(f'returns: {returns:,} events are kept as they are (`returns = "keep"`), as no participation.')
        return Returns(returns=returns)
    _walk(connection, columns, is_return)
    _mark(connection)
    signs = ", ".join(
        f"CASE WHEN {is_return} THEN abs({column}) ELSE {column} END AS {column}"
        for column in RETURNED
        if column in columns
    )
    replaced = f"CASE WHEN {is_return} THEN 'return' ELSE kind END AS kind{', ' + signs if signs else ''}"
    marks = [name for name in ("returned_at", "returned_share") if name not in columns]
    own = f"* EXCLUDE ({', '.join(set(RETURN_MARKS) - set(marks))})" if len(marks) < len(RETURN_MARKS) else "*"
    connection.execute("ALTER VIEW events RENAME TO events_before_returns")
    connection.execute(
        f"CREATE VIEW events AS SELECT {own} REPLACE ({replaced}), m.returned_at, m.returned_share "
        "FROM events_before_returns LEFT JOIN returned_purchases m USING (_key)"
    )
    columns += marks
    found = Returns(
        returns,
        *connection.execute(
            "SELECT (SELECT count(*) FROM returned_purchases WHERE returned_share = 1), "
            "(SELECT count(*) FROM returned_purchases WHERE returned_share < 1), "
            "(SELECT count(*) FROM return_walk WHERE is_return AND unmatched = units)"
        ).fetchone()
        or (0, 0, 0),
    )
    decisions.append(
        f"returns: {found.returns:,} take back {found.wholly:,} purchases wholly and {found.partly:,} in part, the "
        f"most recent earlier ones of the same user and item; {found.unmatched:,} have no earlier purchase. A purchase "
        "taken back wholly is no participation, and features after the return leave it out."
    )
    return found


RETURN_MARKS = ("returned_at", "returned_share")


def _walk(connection: duckdb.DuckDBPyConnection, columns: list[str], is_return: str) -> None:
    """Create `return_walk`: for each user and item with a return, the stack of units held after each line.

    A purchase pushes its units on the stack and a return pops from the top, so the most recent ones go first. With s
    the running sum of units and `low` its running minimum (at most 0), the stack's height is s - low. What a return
    would pop from an empty stack is `unmatched`.
    """
    quantity = "nullif(quantity, 0)" if "quantity" in columns else "NULL::DOUBLE"
    amount = "nullif(amount, 0)" if "amount" in columns else "NULL::DOUBLE"
    item = "item_id" if "item_id" in columns else "NULL::VARCHAR"
    connection.execute(
        f"CREATE TABLE returned_things AS SELECT DISTINCT user_id, {item} AS item FROM events "
        f"WHERE user_id IS NOT NULL AND ({is_return})"
    )
    connection.execute(
        f"""CREATE TABLE return_walk AS
        WITH ledger AS (
            SELECT _key, e.user_id, {item} AS item, event_time, ({is_return}) AS is_return,
                {quantity} AS quantity, {amount} AS amount
            FROM events e JOIN returned_things r ON e.user_id = r.user_id AND {item} IS NOT DISTINCT FROM r.item
            WHERE kind = 'purchase' OR {is_return}
        ), counted AS (
            SELECT *, count(*) OVER thing AS lines, count(quantity) OVER thing AS with_quantity,
                count(amount) OVER thing AS with_amount
            FROM ledger WINDOW thing AS (PARTITION BY user_id, item)
        ), measured AS (
            SELECT _key, user_id, item, event_time, is_return, round({MICRO} * CASE
                WHEN lines = with_quantity THEN abs(quantity) WHEN lines = with_amount THEN abs(amount) ELSE 1.0 END
            )::HUGEINT AS units FROM counted
        ), summed AS (
            SELECT *, row_number() OVER until AS place,
                sum(CASE WHEN is_return THEN -units ELSE units END) OVER until AS s
            FROM measured
            WINDOW until AS (PARTITION BY user_id, item ORDER BY event_time, is_return, _key ROWS UNBOUNDED PRECEDING)
        ), lowest AS (
            SELECT *, least(0, min(s) OVER (PARTITION BY user_id, item ORDER BY place ROWS UNBOUNDED PRECEDING)) AS low
            FROM summed
        )
        SELECT _key, user_id, item, event_time, is_return, units, place, s - low AS height,
            coalesce(lag(low) OVER (PARTITION BY user_id, item ORDER BY place), 0) - low AS unmatched
        FROM lowest"""
    )


def _mark(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `returned_purchases`: `_key` of each purchase that was taken back, with when and how much.

    A purchase holds the units between height - units and height of the stack. What is left of it is what lies below
    the lowest height that any later line reaches. The first return that reaches it took the last unit.
    """
    connection.execute(
        """CREATE TABLE returned_purchases AS
        WITH later AS (
            SELECT *, min(height) OVER (
                PARTITION BY user_id, item ORDER BY place ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
            ) AS lowest_later FROM return_walk
        ), taken AS (
            SELECT *, greatest(lowest_later, height - units) AS level FROM later
            WHERE NOT is_return AND lowest_later < height
        )
        SELECT t._key, min(r.event_time) AS returned_at, any_value((t.height - t.level) / t.units) AS returned_share
        FROM taken t JOIN return_walk r ON r.user_id = t.user_id AND r.item IS NOT DISTINCT FROM t.item
            AND r.is_return AND r.place > t.place AND r.height <= t.level
        GROUP BY t._key"""
    )
