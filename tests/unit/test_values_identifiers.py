"""One identifier has one spelling, or two are refused. Words of a closed list are translated, ignored or named."""

from functools import partial
from typing import Any

import duckdb
import pytest
from values_column import column_of, read

from recommender.datasets.values import Identifier, Identifiers, Kind, collisions, survey
from recommender.errors import ContractError


@pytest.mark.parametrize(
    ("values", "type", "names"),
    [
        (["007", " 17 ", "\u00a0a\u3000", "\ufeffb\t"], "VARCHAR", ["007", "17", "a", "b"]),
        (["17", "17.0", "x"], "VARCHAR", ["17", "17", "x"]),
        (["17.0", "1.5"], "VARCHAR", ["17.0", "1.5"]),
        ([17.0, None, 18.0], "DOUBLE", ["17", None, "18"]),
        ([17, 2**60 + 1], "BIGINT", ["17", str(2**60 + 1)]),
        (["NULL", "n/a", "a"], "VARCHAR", [None, None, "a"]),
    ],
)
def test_an_identifier_is_kept_as_written_but_for_blanks_and_floats(
    values: list[Any], type: str, names: list[str | None]
) -> None:
    assert read(Identifier, values, type=type)[0] == names


def test_what_a_null_word_takes_away_is_counted() -> None:
    assert read(Identifier, ["NA", "none", "", "a"])[2].of["value"].null_words == 2
    assert read(Identifier, ["NA", "a"], nulls=())[0] == ["NA", "a"]


def test_letter_case_counts_unless_the_mapping_says_otherwise() -> None:
    assert read(Identifier, ["aB", "AB"])[0] == ["aB", "AB"]
    assert read(partial(Identifier, lower=True), ["aB", "AB"])[0] == ["ab", "ab"]


@pytest.mark.parametrize(
    ("values", "type"), [(["a", "1.23457E+12"], "VARCHAR"), (["a", "1e+20"], "VARCHAR"), ([1.0, 2.0**53], "DOUBLE")]
)
def test_identifiers_that_lost_their_digits_are_refused(values: list[Any], type: str) -> None:
    with pytest.raises(ContractError, match=r"f\.csv.*'own'.*line 3"):
        read(Identifier, values, type=type)


def tables(connection: duckdb.DuckDBPyConnection, first: str, second: str) -> list[Identifiers]:
    for name, value in (("events", first), ("targets", second)):
        connection.execute(
            f"CREATE TABLE {name} AS SELECT * FROM (VALUES ('{name}.csv', 2, 'other'), ('{name}.csv', 3, $1)) "
            "AS t (_file, _row, user_id)",
            [value],
        )
    return [Identifiers("users", name, "user_id", name, "line") for name in ("events", "targets")]


@pytest.mark.parametrize(
    ("one", "other", "remedy"),
    [
        ("17", "17.0", "integers or text"),
        ("aB", "AB", r'"lower".*"exact"'),
        ("17", "0017", "leading zeros"),
        ("a 1", "a1", "blanks"),
        ("a１", "a1", "full-width"),
        ("café", "cafe\u0301", "accents"),
        ("Ａé", "ae\u0301", "full-width"),
    ],
)
def test_two_spellings_of_one_identifier_are_refused(one: str, other: str, remedy: str) -> None:
    with duckdb.connect() as connection, pytest.raises(ContractError, match=remedy) as raised:
        collisions(connection, tables(connection, one, other))
    for fact in (repr(one), repr(other), "line 3 of events.csv", "line 3 of targets.csv"):
        assert fact in str(raised.value)


def test_a_shop_whose_identifiers_have_letter_case_says_so() -> None:
    with duckdb.connect() as connection:
        collisions(connection, tables(connection, "aB", "AB"), identifiers="exact")
    with duckdb.connect() as connection, pytest.raises(ContractError, match="17"):
        collisions(connection, tables(connection, "17", "17.0"), identifiers="exact")


def test_one_spelling_in_two_tables_and_two_kinds_is_none_too_many() -> None:
    with duckdb.connect() as connection:
        sources = tables(connection, "17", "17")
        collisions(connection, sources)
        connection.execute("CREATE TABLE items AS SELECT 'i.csv' AS _file, 1 AS _row, '017' AS item_id")
        collisions(connection, [*sources, Identifiers("items", "items", "item_id", "items")])


def test_a_word_of_a_closed_list_is_translated_ignored_or_named() -> None:
    kind = partial(Kind, allowed=("purchase", "view"))
    words = {"Order": "purchase", "begin_checkout": "ignore"}
    values, problems, readings = read(kind, ["order", "BEGIN_CHECKOUT", "View", "zap", None], words=words)
    assert values == ["purchase", None, "view", None, None]
    assert [bool(problem) for problem in problems] == [False, False, False, True, False]
    assert "zap" in problems[3]
    assert readings.of["value"].found == {"unknown": "zap"}


def test_a_survey_says_what_a_column_could_be() -> None:
    with column_of(["10.03.24", "21.06.24", "NULL"]) as column:
        found = survey(column)
    assert (found.rows, found.filled, found.null_words, found.distinct) == (3, 2, 1, 2)
    assert (found.times.share, found.times.found["format"]) == (1.0, "%d.%m.%y")
    assert found.numbers.share == 0
    with column_of(["1.234", "5"]) as column:
        question = survey(column).numbers.question
    assert question is not None
    assert "1.234" in question
