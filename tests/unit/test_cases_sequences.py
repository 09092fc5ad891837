"""Logs of events with the columns that shops and public data sets have are read as they are."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from recommender.datasets.event_columns import EventColumns
from recommender.datasets.interactions import read_histories, read_interactions
from recommender.errors import ContractError, SourceError
from recommender.sequences import Sequences


def items_of(read: Sequences) -> list[str]:
    return [read.items.ids[row - 1] for row in read.items_T]


@pytest.mark.parametrize(
    ("header", "times"),
    [
        ("user_id,item_id,event_time", (1709370000, 1709370100, 1709370200)),
        ("visitorid,itemid,timestamp", (1709370000000, 1709370100000, 1709370200000)),
        ("userId,movieId,timestamp", (1709370000, 1709370100, 1709370200)),
        ("customer_id,sku,ts", ("2024-03-02 10:00:00 +0100", "2024-03-02 11:00:00 +0100", "2024-03-02 12:00:00 +0100")),
        ("customer_id,article_id,t_dat", ("2024-03-02", "2024-03-03", "2024-03-04")),
        ("CustomerID,StockCode,InvoiceDate", ("13/01/2024 08:26", "14/01/2024 08:26", "15/01/2024 09:00")),
    ],
)
def test_usual_names_of_columns_are_known(header: str, times: tuple[object, ...], tmp_path: Path) -> None:
    rows = zip(("tin", "jar", "pot"), times, strict=True)
    (tmp_path / "e.csv").write_text(f"{header}\n" + "".join(f"a,{item},{time}\n" for item, time in rows))
    read = read_interactions(tmp_path / "e.csv")
    assert items_of(read) == ["tin", "jar", "pot"]
    assert read.has_clock


def test_other_names_are_given(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("who,what,when\na,tin,2024-03-03\na,jar,2024-03-02\n")
    with pytest.raises(SourceError, match=r"e\.csv.*'user'.*who, what, when.*--columns user="):
        read_interactions(tmp_path / "e.csv")
    columns = EventColumns({"user": "who", "item": "what", "time": "when"})
    assert items_of(read_interactions(tmp_path / "e.csv", columns=columns)) == ["jar", "tin"]
    with pytest.raises(SourceError, match=r"'whom'.*'who'"):
        read_interactions(tmp_path / "e.csv", columns=EventColumns({"user": "whom"}))


def test_only_the_kinds_that_are_named_count(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "visitorid,event,itemid,timestamp\n1,view,a,1709370000\n1,transaction,b,1709370001\n1,addtocart,c,1709370002\n"
    )
    assert items_of(read_interactions(tmp_path / "e.csv")) == ["a", "b", "c"]
    kinds = EventColumns(kinds=("Transaction", "addtocart"))
    assert items_of(read_interactions(tmp_path / "e.csv", columns=kinds)) == ["b", "c"]
    with pytest.raises(SourceError, match=r"purchase.*'event'.*addtocart, transaction, view"):
        read_interactions(tmp_path / "e.csv", columns=EventColumns(kinds=("purchase",)))


def mapped(folder: Path, more: str = "") -> Path:
    (folder / "log.jsonl").write_text(
        "".join(
            json.dumps({"who": who, "what": what, "at": at, "did": did}) + "\n"
            for who, what, at, did in (
                ("a", "tin", "05.03.2024 10:00", "order"),
                ("a", "jar", "13.03.2024 10:00", "look"),
                ("a", None, "14.03.2024 10:00", "look"),
                ("a", "pot", "15.03.2024 10:00", "noise"),
            )
        )
    )
    (folder / "mapping.toml").write_text(
        f"""
        [source]
        time_zone = "Europe/Berlin"
        [tables.events]
        file = "log.jsonl"
        columns = {{ user_id = "who", item_id = "what", event_time = "at", kind = "did" }}
        values = {{ kind = {{ order = "purchase", look = "view" {more} }} }}
        """
    )
    return folder / "mapping.toml"


def test_a_mapping_says_how_its_events_are_read(tmp_path: Path) -> None:
    path = mapped(tmp_path, ', noise = "ignore"')
    with pytest.warns(UserWarning, match="1 events without item"):
        read = read_interactions(path)
    assert items_of(read) == ["tin", "jar"]
    assert read.times_T is not None
    assert read.times_T[0] == 1709629200 * 1_000_000  # 09:00 in UTC
    assert items_of(read_interactions(path, columns=EventColumns(kinds=("purchase",)))) == ["tin"]
    with pytest.raises(ContractError, match=r"kind.*noise.*values"):
        read_interactions(mapped(tmp_path))


def test_orders_and_their_lines_are_joined_in_the_mapping(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("number,customer,moment\n1,a,2024-03-05 10:00\n2,a,2024-03-06 10:00\n")
    (tmp_path / "lines.csv").write_text("number,sku\n2,jar\n1,tin\n")
    (tmp_path / "mapping.toml").write_text(
        """
        [source]
        time_zone = "UTC"
        [inputs.orders]
        file = "orders.csv"
        [inputs.lines]
        file = "lines.csv"
        [tables.events]
        query = '''
        SELECT customer AS user_id, sku AS item_id, moment AS event_time FROM orders JOIN lines USING (number)
        '''
        constants = { kind = "purchase" }
        """
    )
    assert items_of(read_interactions(tmp_path / "mapping.toml")) == ["tin", "jar"]


def test_two_spellings_of_a_user_are_said(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user,item,pos\n017,tin,0\n17,jar,0\n")
    with pytest.warns(UserWarning, match=r"'017'.*line 2.*'17'.*line 3"):
        assert read_interactions(tmp_path / "e.csv").num_users == 2


def test_the_commands_take_columns_and_kinds(tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + day) % 5},{1709370000 + day},buy" for user in range(30) for day in range(4)]
    (tmp_path / "e.csv").write_text("\n".join(["who,sku,when,did", *rows, "u1,i9,1709379999,look"]))
    log = ["--interactions", str(tmp_path / "e.csv"), "--columns", "user=who,time=when,kind=did", "--kinds", "buy"]
    kept, answers = tmp_path / "kept", tmp_path / "next.csv"
    for words in (
        ["next-items", "fit", *log, "--ranker", "rules", "--save", str(kept)],
        ["next-items", "ask", *log, "--bundle", str(kept), "--output", str(answers), "--top", "1"],
        ["benchmark", "sequences", *log, "--ranker", "rules", "--output", str(tmp_path / "out.json")],
    ):
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 0, ended.output
    assert len(answers.read_text().splitlines()) == 31
    assert json.loads((tmp_path / "out.json").read_text())["counts"]["items"] == 5
    wrong = CliRunner().invoke(app, ["next-items", "fit", *log[:2], "--columns", "usr=who", "--save", str(kept)])
    assert "'user'" in str(wrong.exception) + wrong.output


def test_histories_are_read_by_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("who,item,ts\na,tin,1709370000\na,jar,1709370001\n")
    columns = EventColumns({"user": "who"})
    items = read_interactions(tmp_path / "e.csv", columns=columns).items
    users, histories, left_out = read_histories(tmp_path / "e.csv", items, columns=columns)
    assert (users.tolist(), items_of(histories), left_out) == (["a"], ["tin", "jar"], 0)
