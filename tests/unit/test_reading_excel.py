"""Excel workbooks: a sheet by name, numbers without a fraction, dates, and errors that name sheet and row."""

import base64
import io
import zipfile
import zlib
from pathlib import Path

import duckdb
import pytest

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import RawTable, open_file
from recommender.errors import SourceError

OLD_WORKBOOK = (
    "c-rk)OK1~882)DSXcF2yYAUos2?eY6aS$(F+EuA72&vVJ4}_X_BZNpQoAyvIR%?!e;7RdPse+fP7aypg;K74X(SsleiJruhpx~j+`p>_"
    "+F^vihXrVgaGT+SnGvCg?JFlI6xfm<X-DxYK2L14$Yz5)3vIz=7HxmVwTb4|^ae#uQu&xjcP)GWGc-Zu!LH42S?-DfJ_C6&B-cvY+Qy8Ae"
    "r4wt2J?ukDNFVx$1+J1Mj8^ulnR%Rf1M@Ae`G|QJTP`s7QQe|AibZ|6Yo{}c4{IG<7KXg<J=VNs%XYNjxg5o3E(*J@54+7w>f|~rX!kZ^9"
    "@L>j>0H{B`3SBf1RNpsCX>Ab14YECv*+>EN&sKnS^XrT>}zWmAp5tK_J-fs1JsGN_Dh-<n1OYiCrN<@b=+%D<o%|RHuFp9rcnV7G$5w(X>"
    "&AVcmN|cO`Ok85l?1vBpOeh_!yFFJg*7S6>CBh&y_}E0})Qgc*aD@sim8rUnR#z^ij6V@IGMg7MrDWuy9r?NF3%8PldZ!(an60@4AW8ZO"
    "n0Un&Qrp7AG+{%XQ9kX(zR_gYjD5QkC9H>B6T2_uC5}^lg-07%H8PFTBy`&_TPGL3(-3qDS<IE0-l6=x!{WmE|3C>rbmpK#MxQTh5jk!L"
    "poJgc!4(lW#{<a+>q5q*~OdA5)8h)q}jQU3(^<Q0fHhJdRHLg-&DLKGxl+=rq>J_uj8H<F2ekE8-7?prD|jprD|jpz!}f@b{_xHSTqe34Z"
    "&i!2flYDU{W3l7AKlF+tZP9V+)CN3n_Ny2j5&_=I~eu}Y2mzfj^3wQeGdG4>-{_xPn#kf?s1RSTnkZVJ`gez_h$|8o1^0dYFmrT"
)
"""A workbook of Excel 97 (.xls) with the rows of ROWS, written by xlwt, compressed."""
ROWS = [(2, "17", "2024-03-01", "tin"), (3, "18", "2024-03-02", "café")]

Cell = str | float | bool | None
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DATE, MOMENT = 1, 2
"""Styles of the workbooks written here."""


def dated(serial: float, style: int) -> tuple[float, int]:
    """A cell with a date: Excel's day number and how it is shown."""
    return serial, style


def workbook(**sheets: list[list[Cell | tuple[float, int]]]) -> bytes:
    """The least .xlsx with these sheets."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}/content-types"/>')
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships">'
            f'<Relationship Id="b" Type="{LINKS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
        archive.writestr("xl/workbook.xml", f'<workbook {main} xmlns:r="{LINKS}"><sheets>{listed}</sheets></workbook>')
        related = "".join(
            f'<Relationship Id="r{n}" Type="{LINKS}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships">{related}'
            f'<Relationship Id="s" Type="{LINKS}/styles" Target="styles.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/styles.xml",
            f'<styleSheet {main}><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/></cellXfs>'
            "</styleSheet>",
        )
        for number, rows in enumerate(sheets.values(), 1):
            body = "".join(
                f'<row r="{y}">{"".join(cell(value, x, y) for x, value in enumerate(row))}</row>'
                for y, row in enumerate(rows, 1)
            )
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml", f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>"
            )
    return target.getvalue()


def cell(value: Cell | tuple[float, int], column: int, row: int) -> str:
    place = f'r="{"ABCDEFGH"[column]}{row}"'
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f'<c {place} s="{value[1]}"><v>{value[0]}</v></c>'
    if isinstance(value, bool):
        return f'<c {place} t="b"><v>{int(value)}</v></c>'
    if isinstance(value, str):
        return f'<c {place} t="inlineStr"><is><t>{value}</t></is></c>'
    return f"<c {place}><v>{value}</v></c>"


def read(path: Path, content: bytes, **form: str | tuple[str, ...]) -> tuple[RawTable, list[tuple[object, ...]]]:
    path.write_bytes(content)
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        raw = open_file(connection, path, FileFormat(**form), name="orders", scratch=scratch)
        return raw, connection.execute("SELECT * EXCLUDE (_file) FROM orders ORDER BY _row").fetchall()


ORDERS: list[list[Cell | tuple[float, int]]] = [
    ["user_id", "day", "sku"],
    [17.0, dated(45352, DATE), "tin"],
    [18.0, dated(45353, DATE), "café"],
]


@pytest.mark.parametrize("name", ["orders.xlsx", "ORDERS.XLSX", "orders.csv", "orders"])
def test_a_workbook_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    raw, rows = read(tmp_path / name, workbook(Orders=ORDERS))
    assert raw.columns == ("user_id", "day", "sku")
    assert raw.row_means == "row"
    assert rows == ROWS


def test_an_old_workbook_is_read(tmp_path: Path) -> None:
    assert read(tmp_path / "orders.xls", zlib.decompress(base64.b85decode(OLD_WORKBOOK)))[1] == ROWS


def test_cells_of_all_types_become_texts(tmp_path: Path) -> None:
    cells: list[list[Cell | tuple[float, int]]] = [
        ["id", "at", "paid", "member"],
        [9007199254740991.0, dated(45352.5, MOMENT), 1.5, True],
        ["007", None, 1e20, False],
    ]
    assert read(tmp_path / "a.xlsx", workbook(A=cells))[1] == [
        (2, "9007199254740991", "2024-03-01 12:00:00", "1.5", "true"),
        (3, "007", None, "100000000000000000000", "false"),
    ]


def test_a_sheet_is_chosen_by_name_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    content = workbook(Notes=[["read me"]], Orders=[[], [], *ORDERS[:2], [], ORDERS[2], []])
    assert [row[0] for row in read(tmp_path / "a.xlsx", content, sheet="Orders")[1]] == [4, 6]
    with pytest.raises(SourceError, match=r"a\.xlsx.*'Orders'"):
        read(tmp_path / "a.xlsx", content, sheet="Order")


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        ([], ("'Orders'", "empty")),
        (ORDERS[1:], ("header = [", "row 1")),
        ([["user", "sku", "User"], ["a", "b", "c"]], ("'User'",)),
        ([["user", None, "sku"], ["a", "b", "c"]], ("column 2",)),
        ([["user", "sku"], ["a", "b"], ["c", "d", "note"]], ("row 3", "'note'")),
    ],
)
def test_a_wrong_sheet_is_refused_by_row_or_column(
    tmp_path: Path, rows: list[list[Cell | tuple[float, int]]], facts: tuple[str, ...]
) -> None:
    with pytest.raises(SourceError, match=r"a\.xlsx") as caught:
        read(tmp_path / "a.xlsx", workbook(Orders=rows))
    for fact in facts:
        assert fact in str(caught.value)


def test_a_sheet_without_a_header_is_read_with_names_from_the_mapping(tmp_path: Path) -> None:
    raw, rows = read(tmp_path / "a.xlsx", workbook(Orders=ORDERS[1:]), header=("user_id", "day", "sku"))
    assert raw.columns == ("user_id", "day", "sku")
    assert rows == [(number - 1, *cells) for number, *cells in ROWS]


def test_a_table_may_begin_in_any_cell(tmp_path: Path) -> None:
    moved = workbook(Orders=[[], [], *([None, None, *row] for row in ORDERS)])
    raw, rows = read(tmp_path / "a.xlsx", moved)
    assert raw.columns == ("user_id", "day", "sku")
    assert rows == [(number + 2, *cells) for number, *cells in ROWS]


@pytest.mark.parametrize("size", [600, 601, 1_111, 2_000])
def test_a_damaged_workbook_is_named(tmp_path: Path, size: int) -> None:
    old = zlib.decompress(base64.b85decode(OLD_WORKBOOK))
    with pytest.raises(SourceError, match=r"orders\.xls"):
        read(tmp_path / "orders.xls", old[:size])
