"""Money: a currency's decimals, one currency for the whole log, and amounts rounded to its minor units.

Amounts stay float64 in units of the currency. A float64 that was rounded to the currency's decimals gives its whole
minor units (cents) exactly after multiplying and rounding, up to 2 ** 53 of them. Sums of money run over those whole
numbers, see `recommender.features.source`.
"""

import duckdb

from recommender.datasets.currencies import decimals
from recommender.datasets.mapping import SourceMapping
from recommender.errors import ContractError

MONEY = {"events": ("amount", "discount", "coupon_discount"), "items": ("price",)}
"""Canonical table -> its columns of money."""
SHOWN = 8
"""Currencies that an error lists. Chosen by hand: a line of a terminal."""


def settle_currency(
    connection: duckdb.DuckDBPyConnection, present: dict[str, list[str]], source: SourceMapping, decisions: list[str]
) -> str | None:
    """Bring all amounts into one currency, rounded to its decimals, and return it. None if the source names none.

    The views `events` and `items` are replaced. Without a currency amounts stay as they are.

    Raises:
        ContractError: the events are in several currencies and the mapping has no rate for one; lists the currencies
            with their rows.
    """
    found = _currencies(connection, present["events"])
    currency = source.currency
    if currency is None and len(found) == 1:
        currency = next(iter(found))
    foreign = {code: rows for code, rows in found.items() if code != currency}
    missing = [code for code in foreign if code not in source.rates]
    if foreign and (currency is None or missing):
        listed = ", ".join(f"{code} ({rows:,} rows)" for code, rows in list(found.items())[:SHOWN])
        wanted = ", ".join(f"{code} = …" for code in (missing if currency else list(found)[1:])[:SHOWN])
        problem = (
            f"amounts are in several currencies: {listed}; name the shop's own in [source] as `currency`"
            f"{f' (it is {currency})' if currency else ''} and what one unit of each other is worth in it as "
            f"`rates = {{ {wanted} }}`, or leave rows out with `where`"
        )
        raise ContractError("events", problem, column="currency")
    if currency is None:
        return None
    for table, columns in MONEY.items():
        money = [column for column in columns if column in present.get(table, ())]
        if money:
            rates = {code: source.rates[code] for code in foreign} if table == "events" else {}
            _round(connection, table, money, currency, rates)
    for code, rows in foreign.items():
        decisions.append(f"events: {rows:,} rows in {code} were converted to {currency} at {source.rates[code]:g}.")
    decisions.append(f"money: all amounts are in {currency}, rounded to {decimals(currency)} decimals.")
    return currency


def _currencies(connection: duckdb.DuckDBPyConnection, columns: list[str]) -> dict[str, int]:
    """Currencies of the events that hold money, the commonest first, with their rows."""
    money = [column for column in MONEY["events"] if column in columns]
    if "currency" not in columns or not money:
        return {}
    has_money = " OR ".join(f"{column} IS NOT NULL" for column in money)
    query = (
        f"SELECT upper(trim(currency)), count(*) FROM events WHERE currency IS NOT NULL AND ({has_money}) "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return dict(connection.execute(query).fetchall())


def _round(
    connection: duckdb.DuckDBPyConnection, table: str, money: list[str], currency: str, rates: dict[str, float]
) -> None:
    """Replace the view `table` by one with converted and rounded amounts."""
    cases = " ".join(f"WHEN '{code}' THEN {rate!r}::DOUBLE" for code, rate in rates.items())
    rate = f" * CASE upper(trim(currency)) {cases} ELSE 1.0::DOUBLE END" if rates else ""
    replaced = ", ".join(f"round({column}{rate}, {decimals(currency)}) AS {column}" for column in money)
    connection.execute(f"ALTER VIEW {table} RENAME TO {table}_in_source_currency")
    connection.execute(f"CREATE VIEW {table} AS SELECT * REPLACE ({replaced}) FROM {table}_in_source_currency")
