"""Amounts are in one currency, exact in its minor units."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_shop import SmallShop, ask

from recommender.datasets.currencies import decimals
from recommender.errors import ContractError, SourceError
from recommender.features.build import build

HEADER = "user_id,event_time,item_id,amount,discount,currency\n"


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    return SmallShop(tmp_path)


@pytest.mark.parametrize(("currency", "expected"), [("JPY", 0), ("VND", 0), ("IDR", 2), ("EUR", 2), ("KWD", 3)])
def test_every_currency_has_its_own_decimals(shop: SmallShop, currency: str, expected: int) -> None:
    assert decimals(currency) == expected
    shop.source += f'currency = "{currency}"\n'
    shop.write("events.csv", "user_id,event_time,item_id,amount\n17,2024-03-02 10:00:00,tin,1234.56789\n")
    tables = shop.read()
    assert ask(tables, "SELECT amount FROM events") == [(round(1234.56789, expected),)]
    assert tables.currency == currency


def test_amounts_stay_as_they_are_where_no_currency_is_stated(shop: SmallShop) -> None:
    shop.write("events.csv", "user_id,event_time,item_id,amount\n17,2024-03-02 10:00:00,tin,1234.56789\n")
    tables = shop.read()
    assert ask(tables, "SELECT amount FROM events") == [(1234.56789,)]
    assert tables.currency is None


MIXED = HEADER + "17,2024-03-02 10:00:00,tin,10,1,EUR\n18,2024-03-02 10:00:00,tin,10,1,usd\n19,2024-03-03,tin,5,,USD\n"


def test_several_currencies_are_converted_by_the_mappings_rates(shop: SmallShop) -> None:
    shop.source += 'currency = "EUR"\nrates = { USD = 0.9237 }\n'
    shop.write("events.csv", MIXED)
    tables = shop.read()
    found = ask(tables, "SELECT user_id, amount, discount, upper(currency) FROM events ORDER BY 1")
    assert found == [("17", 10.0, 1.0, "EUR"), ("18", 9.24, 0.92, "USD"), ("19", 4.62, None, "USD")]
    assert any("2 rows in USD" in said for said in tables.manifest["decisions"])


@pytest.mark.parametrize("source", ["", 'currency = "EUR"\n', 'currency = "EUR"\nrates = { GBP = 1.1 }\n'])
def test_several_currencies_without_a_rate_are_refused_with_their_rows(shop: SmallShop, source: str) -> None:
    shop.source += source
    shop.write("events.csv", MIXED)
    with pytest.raises(ContractError, match=r"USD \(2 rows\), EUR \(1 rows\)") as caught:
        shop.read()
    assert caught.value.column == "currency"
    assert "rates" in str(caught.value)


def test_one_currency_in_the_log_is_the_shops(shop: SmallShop) -> None:
    shop.write("events.csv", HEADER + "17,2024-03-02 10:00:00,tin,1000.4,,JPY\n")
    tables = shop.read()
    assert (tables.currency, ask(tables, "SELECT amount FROM events")) == ("JPY", [(1000.0,)])


def test_rates_without_a_currency_are_refused_by_key(shop: SmallShop) -> None:
    shop.source += "rates = { USD = 0.9 }\n"
    with pytest.raises(SourceError, match=r"source: `rates` need `currency`"):
        shop.read()


@pytest.mark.parametrize(("currency", "amount"), [("KWD", 0.001), ("EUR", 0.1), ("JPY", 7.0), ("VND", 5_000_000.0)])
def test_a_thousand_small_amounts_add_up_exactly_in_the_features(shop: SmallShop, currency: str, amount: float) -> None:
    shop.source += f'currency = "{currency}"\n'
    lines = "".join(f"17,2024-03-02 10:{n // 60:02d}:{n % 60:02d},tin,{amount}\n" for n in range(300))
    shop.write("events.csv", "user_id,event_time,item_id,amount\n" + lines)
    build(shop.read(), shop.folder / "features", as_of=datetime(2024, 3, 15, tzinfo=UTC), threads=1)
    rows = pq.read_table(shop.folder / "features" / "users.parquet").to_pylist()
    spend = max(row["consumption__spend_30d"] or 0.0 for row in rows if row["user_id"] == "17")
    assert spend == pytest.approx(round(300 * amount, 3), rel=1e-7)


PRICED = "user_id,event_time,item_id,quantity,amount\n"


def test_a_unit_price_is_multiplied_by_the_quantity(shop: SmallShop) -> None:
    shop.write("events.csv", PRICED + "17,2024-03-02 10:00:00,tin,3,2.50\n18,2024-03-03 10:00:00,tin,,2.50\n")
    shop.parts["events"] += 'per_unit = ["amount"]\n'
    assert ask(shop.read(), "SELECT user_id, amount FROM events ORDER BY 1") == [("17", 7.5), ("18", 2.5)]


def test_a_returned_unit_takes_its_price_back(shop: SmallShop) -> None:
    shop.write("events.csv", PRICED + "17,2024-03-02 10:00:00,tin,3,250\n17,2024-03-03 10:00:00,tin,-1,250\n")
    shop.parts["events"] += 'per_unit = ["amount"]\nscale = { amount = 0.01 }\n'
    found = ask(shop.read(), "SELECT kind, amount, returned_share FROM events ORDER BY 1")
    assert found == [("purchase", 7.5, pytest.approx(1 / 3)), ("return", 2.5, None)]


@pytest.mark.parametrize(("keys", "names"), [('["quantity"]', "quantity"), ('["price"]', "price")])
def test_only_money_is_for_one_unit(shop: SmallShop, keys: str, names: str) -> None:
    shop.parts["events"] += f"per_unit = {keys}\n"
    with pytest.raises(SourceError, match=names):
        shop.read()


def test_a_unit_price_without_a_quantity_is_refused(shop: SmallShop) -> None:
    shop.write("events.csv", "user_id,event_time,item_id,amount\n17,2024-03-02 10:00:00,tin,2.50\n")
    shop.parts["events"] += 'per_unit = ["amount"]\n'
    with pytest.raises(ContractError) as caught:
        shop.read()
    assert caught.value.column == "quantity"
