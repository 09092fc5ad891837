"""Numbers are read by what the whole column proves, and a doubtful column is a question."""

from functools import partial

import pytest
from values_column import read

from recommender.datasets.values import Number, Time
from recommender.errors import ContractError


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["9.5", "2", "1.234"], [9.5, 2, 1.234]),
        (["9,50", "2"], [9.5, 2]),
        (["1.234,56", "12,5", "1.234"], [1234.56, 12.5, 1234]),
        (["1,234.56", "7", "1,234"], [1234.56, 7, 1234]),
        (["1.234.567", "3"], [1234567, 3]),
        (["12,34,567.50", "1"], [1234567.5, 1]),
        (["0.250", "1.500"], [0.25, 1.5]),
        (["1 234,50", "1\u00a0234", "1\u202f234 567"], [1234.5, 1234, 1234567]),
        (["1'234.50", "2"], [1234.5, 2]),
        (["(5.50)", "5-", "-3", "+4", "−2"], [-5.5, -5, -3, 4, -2]),
        (["€ 9,50", "9,50 EUR", "-€3,00"], [9.5, 9.5, -3]),
        (["$1,234.56", "USD 5"], [1234.56, 5]),
        (["¥1200", "１２", "1200元", "￥５．５"], [1200, 12, 1200, 5.5]),
        (["9,50 kr", "1.234 kr"], [9.5, 1234]),
        (["12%", "5 %"], [0.12, 0.05]),
        (["1e3", "0.5", " 7 ", "NULL", "n/a", ""], [1000, 0.5, 7, None, None, None]),
    ],
)
def test_the_whole_column_decides_its_marks(texts: list[str], numbers: list[float | None]) -> None:
    values, problems, _ = read(Number, texts)
    assert values == pytest.approx(numbers)
    assert not any(problems)


@pytest.mark.parametrize(("text", "key"), [("1.234", 'decimal = "."'), ("1,234", 'decimal = ","')])
def test_a_mark_that_no_value_decides_is_a_question(text: str, key: str) -> None:
    with pytest.raises(ContractError, match=rf"f\.csv.*'own'.*{key}.*thousands.*{text}.*line 3") as raised:
        read(Number, ["5", text, "7"])
    assert raised.value.column == "value"


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        (partial(Number, decimal="."), 1.234),
        (partial(Number, thousands="."), 1234),
        (partial(Number, decimal=","), 1234),
        (partial(Number, decimal=",", thousands="."), 1234),
    ],
)
def test_the_mapping_answers_the_question(rule: partial[Number], number: float) -> None:
    assert read(rule, ["1.234", "5"])[0] == [number, 5]


def test_numbers_of_two_kinds_are_refused_with_a_row_of_each() -> None:
    with pytest.raises(ContractError, match=r"'1\.5' in line 2.*'7,25' in line 4"):
        read(Number, ["1.5", "3", "7,25"])
    values, problems, _ = read(partial(Number, decimal="."), ["1.5", "3", "7,25"])
    assert values == [1.5, 3, None]
    assert "7,25" in problems[2]


def test_several_currencies_are_refused_by_name() -> None:
    with pytest.raises(ContractError, match=r"EUR, USD.*`rates`.*line"):
        read(Number, ["9.50 USD", "9.50 EUR"])


def test_per_cent_among_plain_numbers_is_refused() -> None:
    with pytest.raises(ContractError, match=r"1 of 2 .*%.*'12%'.*line 2"):
        read(Number, ["12%", "5.5"])


def test_infinity_is_no_number_and_nan_is_missing() -> None:
    values, problems, _ = read(Number, [1.5, float("nan"), float("inf")], type="DOUBLE")
    assert values == [1.5, None, None]
    assert [bool(problem) for problem in problems] == [False, False, True]
    values, problems, _ = read(Number, ["inf", "nan", "5.5"])
    assert (values, bool(problems[0]), problems[1]) == ([None, None, 5.5], True, "")


def test_a_column_of_another_type_is_refused() -> None:
    for rule in (Number, partial(Time, zone="UTC")):
        with pytest.raises(ContractError, match=r"'own'.*UUID"):
            read(rule, ["8c0fd6ad-2b9d-4b6c-8a3f-0e6f7a1f5f10"], type="UUID")


def test_what_is_no_number_is_named() -> None:
    _, problems, _ = read(Number, ["soon", "5.5"])
    assert "soon" in problems[0]
    assert "`decimal`" in problems[0]
