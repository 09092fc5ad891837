"""The lines of a CSV file: delimiter, header, quotes, and every line that is broken named by its number."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import open_file
from recommender.errors import SourceError

Read = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """The rows of a CSV file: `_row` and its columns. Their names come first."""
    with TemporaryDirectory() as scratch, duckdb.connect() as connection:

        def read_(text: str, **form: Any) -> list[tuple[Any, ...]]:
            (tmp_path / "orders.csv").write_bytes(text.encode())
            connection.execute("DROP VIEW IF EXISTS orders")
            raw = open_file(
                connection, tmp_path / "orders.csv", FileFormat(**form), name="orders", scratch=Path(scratch)
            )
            rows = connection.execute("SELECT * EXCLUDE (_file) FROM orders ORDER BY _row").fetchall()
            return [raw.columns, *rows]

        yield read_


def refused(read: Read, text: str, **form: Any) -> str:
    with pytest.raises(SourceError, match=r"orders\.csv") as caught:
        read(text, **form)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n"x, ""y""",2\n', [(2, 'x, "y"', "2")]),
        ('a,b\n"x\ny",2\nz,3\n', [(1, "x\ny", "2"), (2, "z", "3")]),
        ('a,b\r\n"x\ny",2\r\nz,3\r\n', [(2, "x\ny", "2"), (4, "z", "3")]),
        ('a,b\n"x\r\ny",2\nz,3\n', [(2, "x\r\ny", "2"), (4, "z", "3")]),
        ("a,b\n1,2\n\n3,4\n\n", [(1, "1", "2"), (2, "3", "4")]),
        ("a,b\r\n1,2\r\n\r\n3,4\r\n", [(1, "1", "2"), (2, "3", "4")]),
        ("\n\na,b\n1,2\n", [(4, "1", "2")]),
        ('a,b\n12" pan,2\n6" 5",3\n', [(2, '12" pan', "2"), (3, '6" 5"', "3")]),
        ('a,b\n"say \\"hi, you\\"",\\N\n', [(2, 'say "hi, you"', "\\N")]),
        ('a\tb\n"Best" tin\t5\n"12 inch\t6\n', [(2, '"Best" tin', "5"), (3, '"12 inch', "6")]),
        ("a,b\r\n1,2\n3,4\r\n", [(2, "1", "2"), (3, "3", "4")]),
        ("a\nx\n\ny\n", [(2, "x"), (4, "y")]),
        ('a,b\n"",\n', [(2, None, None)]),
        ("a,b\n 1 ,2\n", [(2, " 1 ", "2")]),
        ("name;price\ntin;1,50\njar;2,50\n", [(2, "tin", "1,50"), (3, "jar", "2,50")]),
        ("name\tnote, long\ntin\ta, b\njar\tc\n", [(2, "tin", "a, b"), (3, "jar", "c")]),
        ('a,b\n1, "x, y"\n', [(2, "1", "x, y")]),
        ("\r\n\r\na,b\r\n1,2\r\n", [(4, "1", "2")]),
        ("\ra,b\r1,2\r", [(3, "1", "2")]),
        ("a,b\n1\u2028x,2\x0b\n", [(2, "1\u2028x", "2\x0b")]),
        ("# Account: shop\n# 20240301-20240331\n\na,b\n1,2\n", [(5, "1", "2")]),
        ("#a,b\n1,2\n", [(2, "1", "2")]),
        ("a;b\n1,5;2\n1;3,5\n", [(2, "1,5", "2"), (3, "1", "3,5")]),
    ],
)
def test_lines_are_read_with_their_numbers(read: Read, text: str, rows: list[tuple[Any, ...]]) -> None:
    assert read(text)[1:] == rows


def test_any_one_character_can_be_the_delimiter(read: Read) -> None:
    assert read("a^b\n1^2\n", delimiter="^") == [("a", "b"), (2, "1", "2")]
    assert read("a¦b\n1¦2\n", delimiter="¦") == [("a", "b"), (2, "1", "2")]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("a,b,c\n1,2,3\n1,2\n4,5,6\n", ("line 3", "2 fields", "3 are wanted", "'1,2'")),
        ("a,b,c\n1,2,3\n,", ("line 3", "2 fields", "3 are wanted", "cut off")),
        ("a,b\n1,2\n1,2,3\n", ("line 3", "3 fields", "2 are wanted", "'1,2,3'")),
        ("a,b\n1,2,\n3,4,\n5,6,\n", ("line 2", "2 other lines", "delimiter at the end")),
        ("a,b\r\n1,2\r\nx", ("line 3", "1 field ", "2 are wanted")),
        ('a,b\n"x\ny",2\n"z"\n', ("line 4", "1 field ")),
        ('a,b\n1,2\n"tin,3\n4,5\n', ("line 3", "never closes", "tin,3")),
        ('a,b\n1,2\n"tin,3\n"jar",5\n', ("line 3", "line 4")),
        ('a,b\n1,2\n"ti"n,3\n', ("line 3", "closing quote")),
        ("\n\na,b\n1,2\n3\n", ("line 5",)),
        ("Orders of March\na,b,c\n1,2,3\n4,5,6\n", ("line 1", "'Orders of March'", "have 3")),
        ("Orders\n\na;b;c\n1;2;3\n4;5;6\n", ("line 1", "have 3")),
    ],
)
def test_a_broken_line_is_named_with_its_beginning(read: Read, text: str, facts: tuple[str, ...]) -> None:
    message = refused(read, text)
    for fact in facts:
        assert fact in message


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("user,sku,USER\n1,a,2\n", ("'USER'", "columns 1 and 3")),
        ("user,,sku\n1,a,2\n", ("column 2",)),
        ("\n\nuser,,sku\n1,a,2\n", ("line 3",)),
        (",,\n1,a,2\n", ("column 1",)),
    ],
)
def test_a_wrong_header_is_refused_by_column(read: Read, text: str, facts: tuple[str, ...]) -> None:
    message = refused(read, text)
    for fact in facts:
        assert fact in message


def test_row_numbers_and_empty_last_columns_need_no_name(read: Read) -> None:
    assert read(",user,sku\n0,u,a\n1,v,b\n")[0] == ("column_1", "user", "sku")
    assert read("user,sku,\nu,a,\nv,b,\n")[0] == ("user", "sku", "column_3")


def test_blanks_around_a_name_do_not_count(read: Read) -> None:
    assert read(" user , sku\nu,a\n")[0] == ("user", "sku")


HEADERLESS = [
    ("1,2268318,2520377,pv,1511544070\n1,2333346,2520771,pv,1511561733\n100,230380,411153,buy,1511600000\n", 5),
    ("u17,tin,view\nu18,jar,buy\nu19,tin,view\n", 3),
    ("17\t2024-03-01 10:00:00\ttin\n18\t2024-03-02 11:30:00\tjar\n", 3),
    ("C-0042;2024/03/01;9,50\nC-0043;2024/03/02;1,50\n", 3),
    ("17,NULL,2024-03-01\n18,3,2024-03-02\n19,4,2024-03-03\n", 3),
    ("1,2\n", 2),
]


@pytest.mark.parametrize(("text", "width"), HEADERLESS)
def test_a_file_without_a_header_is_noticed_and_read_with_names_from_the_mapping(
    read: Read, text: str, width: int
) -> None:
    message = refused(read, text)
    assert "header = [" in message
    assert "line 1" in message
    names = [f"c{number}" for number in range(width)]
    found = read(text, header=names)
    assert found[0] == tuple(names)
    assert [row[0] for row in found[1:]] == list(range(1, text.count("\n") + 1))


@pytest.mark.parametrize(
    "text",
    [
        "user_id,item_id,kind\n1,2,view\n",
        "user,name\nann,bob\nbob,ann\n",
        "v1,v2\nu17,u18\nu19,u20\n",
        "顾客,商品\n17,茶\n18,茶\n",
        "user,kind\nuser,kind\n1,view\n",
    ],
)
def test_a_header_is_not_taken_for_data(read: Read, text: str) -> None:
    assert read(text)[0] == tuple(text.splitlines()[0].split(","))


def test_years_as_names_are_confirmed_in_the_mapping(read: Read) -> None:
    text = "2015,2016\n5,7\n6,8\n"
    assert "repeat them" in refused(read, text)
    assert read(text, header=["2015", "2016"]) == [("2015", "2016"), (2, "5", "7"), (3, "6", "8")]


def test_a_header_of_another_width_than_the_file_is_refused(read: Read) -> None:
    message = refused(read, "1,2,3\n4,5,6\n", header=["a", "b"])
    assert "3 fields where 2 are wanted" in message


def test_the_scan_agrees_with_the_slow_reader_over_block_borders(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    import csv
    import io

    from recommender.datasets.reading import lines

    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    dice = random.Random(3)
    for end in ("\n", "\r\n"):
        for _ in range(40):
            words = ["tin", "a,b", 'say "hi"', "two\nlines", "", "x" * 70, "é茶", '"']
            records = [
                [dice.choice(words) for _ in range(3)] + [str(dice.random())] for _ in range(dice.randint(1, 30))
            ]
            text = io.StringIO()
            csv.writer(text, lineterminator=end).writerows([["a", "b", "c", "d"], *records])
            found = read(text.getvalue())
            assert [tuple(value or "" for value in row[1:]) for row in found[1:]] == [tuple(row) for row in records]


def test_a_broken_line_far_into_a_file_is_found(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    from recommender.datasets.reading import lines

    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    for number in (50, 51, 52, 53):
        text = "a,b\n" + "".join("1,2\n" if line != number else "1,2,3\n" for line in range(2, 100))
        assert f"line {number} " in refused(read, text)
