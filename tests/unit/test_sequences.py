"""Interaction files become sequences that leave-one-out splits, and tied ranks count against the ranker."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_shop import SmallShop
from typer.testing import CliRunner

from cli.main import app
from recommender.datasets.interactions import event_files, read_interactions
from recommender.errors import ContractError, SourceError
from recommender.models.next_item.packing import pack, windows
from recommender.sequences import Items, LeaveOneOut, Sequences
from recommender.sequences.ranks import full_ranks, ndcg


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = [(user, place, f"item {rng.integers(20):02}") for user in range(40) for place in range(6)]
    return pd.DataFrame(rows, columns=["user", "pos", "item"])


def test_parquet_and_csv_in_any_order_are_the_same_sequences(tmp_path: Path) -> None:
    frame = _frame()
    frame.to_parquet(tmp_path / "a.parquet")
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "b.csv", index=False)
    one, other = read_interactions(tmp_path / "a.parquet"), read_interactions(tmp_path / "b.csv")
    assert one.items.ids == other.items.ids
    assert sorted(map(tuple, np.split(one.items_T, one.offsets[1:-1]))) == sorted(
        map(tuple, np.split(other.items_T, other.offsets[1:-1]))
    )


def test_a_folder_of_files_and_the_tables_that_ingest_wrote_are_logs(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path)
    tables = shop.read().folder
    read = [read_interactions(path) for path in (tmp_path / "events.csv", tables, tables / "events")]
    assert [one.items.ids for one in read] == [("tin",)] * 3
    assert [one.items_T.tolist() for one in read] == [[1, 1, 1]] * 3
    assert event_files(tables) == event_files(tables / "events") == sorted((tables / "events").rglob("*.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty"):
        read_interactions(tmp_path / "empty")


def test_timestamps_order_events_where_there_is_no_pos(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"user": ["u"] * 3, "item": ["a", "b", "c"], "timestamp": ["2024-03-01", "2024-01-01", "2024-02-01"]}
    )
    frame.to_csv(tmp_path / "x.csv", index=False)
    read = read_interactions(tmp_path / "x.csv")
    assert [read.items.ids[row - 1] for row in read.items_T] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ([20240301071522, 20240101000000, 20240201235959], "2024-01-01"),
        ([202403010715, 202401010000, 202402012359], "2024-01-01"),
        ([2024030107, 2024010100, 2024020123], "2024-01-01"),
        (["2024-03-01 07:15:22 UTC", "2024-01-01 00:00:00 UTC", "2024-02-01 23:59:59 UTC"], "2024-01-01"),
        ([2024, 2022, 2023], None),
        ([3, 1, 2], None),
    ],
)
def test_numbers_that_no_clock_wrote_only_order(written: list[object], moment: str | None, tmp_path: Path) -> None:
    pd.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "time": written}).to_csv(tmp_path / "x.csv", index=False)
    read = read_interactions(tmp_path / "x.csv")
    assert [read.items.ids[row - 1] for row in read.items_T] == ["b", "c", "a"]
    assert read.times_T is not None
    assert read.has_clock == (moment is not None)
    assert moment is None or read.times_T[0] == pd.Timestamp(moment).value // 1000


@pytest.mark.parametrize("times", [{"date": None}, {"timestamp": "03.01.2024"}, {"date": "x", "time": "y"}])
def test_where_pos_orders_times_that_cannot_be_read_are_left_out_with_a_warning(
    times: dict[str, object], tmp_path: Path
) -> None:
    pd.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "pos": [3, 1, 2], **times}).to_csv(tmp_path / "x.csv")
    with pytest.warns(UserWarning, match="x.csv.*`pos`"):
        read = read_interactions(tmp_path / "x.csv")
    assert [read.items.ids[row - 1] for row in read.items_T] == ["b", "c", "a"]
    assert read.times_T is None


@pytest.mark.parametrize("separator", list(";\t|"))
def test_other_separators_than_a_comma_are_seen_in_the_header(separator: str, tmp_path: Path) -> None:
    names = pd.DataFrame({"user": ["u"] * 3, "item": ["a,1", "b", "0"], "pos": [3, 1, 2]})
    names.to_csv(tmp_path / "x.csv", sep=separator, index=False)
    attributes = pd.DataFrame({"item": ["b"], "attributes": ["red, soft"]})
    attributes.to_csv(tmp_path / "a.csv", sep=separator, index=False)
    read = read_interactions(tmp_path / "x.csv", tmp_path / "a.csv")
    assert [read.items.ids[row - 1] for row in read.items_T] == ["b", "0", "a,1"]
    assert read.items.num_attributes == 1


def test_columns_of_attributes_that_are_not_read_are_named(tmp_path: Path) -> None:
    _frame().to_parquet(tmp_path / "x.parquet")
    listed = pd.DataFrame({"item": ["item 00"], "title": ["a red one"], "name": ["x"], "brand": ["y"]})
    listed.to_csv(tmp_path / "a.csv", index=False)
    with pytest.warns(UserWarning, match=r"a\.csv: .*name, brand.*attributes"):
        read_interactions(tmp_path / "x.parquet", tmp_path / "a.csv")


def test_attributes_in_columns_of_their_own_are_refused_with_the_form_that_is_read(tmp_path: Path) -> None:
    _frame().to_parquet(tmp_path / "x.parquet")
    pd.DataFrame({"item": ["item 00"], "brand": ["y"], "color": ["red"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(SourceError, match=r"a\.csv: .*'attributes'.*brand, color"):
        read_interactions(tmp_path / "x.parquet", tmp_path / "a.csv")


@pytest.mark.parametrize("rows", ["u0,i1,5.0,7\nu0,i2,5.0,8\n", "u0,i1,7,\nu0,i2,8,\n"])
def test_rows_with_more_fields_than_the_header_are_refused(rows: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("user,item,time\n" + rows)
    with pytest.raises(SourceError, match=r"x\.csv: line 2 .*4 .*3\b"):
        read_interactions(tmp_path / "x.csv")


@pytest.mark.parametrize("kind", ["category", "object"])
def test_a_text_may_be_a_category_and_stand_in_one_of_an_items_rows(kind: str, tmp_path: Path) -> None:
    _frame().to_parquet(tmp_path / "x.parquet")
    listed = pd.DataFrame({"item": ["item 00", "item 00", "item 01"], "attributes": ["red", "soft", "red"]})
    listed.assign(title=pd.Series(["a red one", None, None], dtype=kind)).to_parquet(tmp_path / "a.parquet")
    items = read_interactions(tmp_path / "x.parquet", tmp_path / "a.parquet").items
    assert items.texts is not None
    assert items.texts[:2] == ("a red one", "")


def test_attributes_may_write_whole_numbers_with_a_point(tmp_path: Path) -> None:
    pd.DataFrame({"user": ["u"] * 3, "item": ["1.0", "2.0", "x"], "pos": range(3)}).to_csv(
        tmp_path / "x.csv", index=False
    )
    pd.DataFrame({"item": [1.0, 2.0], "attributes": ["red", "blue"]}).to_csv(tmp_path / "a.csv", index=False)
    items = read_interactions(tmp_path / "x.csv", tmp_path / "a.csv").items
    assert items.ids == ("1", "2", "x"), "every dotted name is whole, so a program printed floats"
    assert items.attribute_rows()[0].tolist() == [1, 2]


def test_attributes_bring_items_that_were_never_met(tmp_path: Path) -> None:
    _frame().to_parquet(tmp_path / "x.parquet")
    pd.DataFrame({"item": ["item 00", "zz"], "attributes": ["red|soft", "red"]}).to_csv(tmp_path / "a.csv", index=False)
    items = read_interactions(tmp_path / "x.parquet", tmp_path / "a.csv").items
    rows, values = items.attribute_rows()
    assert items.ids[-1] == "zz"
    assert items.num_attributes == 2
    assert [(items.ids[row - 1], int(value)) for row, value in zip(rows, values, strict=True)] == [
        ("item 00", 0),
        ("item 00", 1),
        ("zz", 0),
    ]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda frame: frame.drop(columns="item"), SourceError, "x.csv: .*'item'"),
        (lambda frame: frame.drop(columns="pos"), SourceError, "x.csv: .*'pos'.*timestamp"),
        (lambda frame: frame.assign(item=frame["item"].where(frame.index != 7)), ContractError, "x.csv.item: .*line 9"),
        (
            lambda frame: frame.assign(pos=frame["pos"].where(frame.index != 3, "soon")),
            ContractError,
            "x.csv.pos: .*soon.*line 5",
        ),
        (
            lambda frame: frame.assign(pos=frame["pos"].astype(float).where(frame.index != 3, np.inf)),
            ContractError,
            "x.csv.pos: .*inf.*line 5",
        ),
        (
            lambda frame: frame.assign(item=frame["item"].where(frame.index != 7, " ")),
            ContractError,
            "x.csv.item: .*line 9",
        ),
        (
            lambda frame: frame.assign(user=frame["user"].where(frame.index != 7, "")),
            ContractError,
            "x.csv.user: .*line 9",
        ),
        (lambda frame: pd.concat([frame, frame.tail(1)]), ContractError, "x.csv.pos: .*line 241"),
        (
            lambda frame: frame.assign(pos=[10**25 + row for row in range(len(frame))]),
            ContractError,
            "x.csv.pos: .*line 2",
        ),
        (lambda frame: frame.head(0), SourceError, "x.csv"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_column_and_row(
    tmp_path: Path, change: object, error: type[Exception], says: str
) -> None:
    changed = change(_frame())  # type: ignore[operator]
    changed.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(error, match=says):
        read_interactions(tmp_path / "x.csv")


@pytest.mark.parametrize("column", ["user", "item"])
@pytest.mark.parametrize("name", ["", " ", None])
def test_a_name_that_is_empty_in_a_parquet_file_is_refused(column: str, name: str | None, tmp_path: Path) -> None:
    frame = _frame().astype({"user": str})
    frame.loc[7, column] = name
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ContractError, match=rf"x\.parquet\.{column}: .*row 8"):
        read_interactions(tmp_path / "x.parquet")


def test_leave_one_out_keeps_the_last_two_items_of_long_users_only() -> None:
    items = Items(tuple("abcde"))
    sequences = Sequences(items, np.array([0, 4, 6]), np.array([1, 2, 3, 4, 5, 1], dtype=np.int32))
    split = LeaveOneOut.of(sequences)
    assert split.train.items_T.tolist() == [1, 2, 5, 1]
    assert split.train_and_validation.items_T.tolist() == [1, 2, 3, 5, 1]
    assert split.validation_U.tolist() == [3, 0]
    assert split.test_U.tolist() == [4, 0]


def test_ties_stand_before_the_target_and_seen_items_do_not_compete() -> None:
    scores = np.array([[9.0, 3.0, 2.0, 2.0, 1.0]], dtype=np.float32)
    seen = Sequences(Items(tuple("abcd")), np.array([0, 1]), np.array([1], dtype=np.int32))
    ranks = full_ranks(scores, seen, np.array([2], dtype=np.int32))
    assert ranks.tolist() == [2]
    assert ndcg(ranks)[0] == pytest.approx(1 / np.log2(3))


def test_windows_make_every_event_but_the_first_a_target_and_packing_keeps_their_order() -> None:
    rng = np.random.default_rng(1)
    lengths = np.array([1, 3, 57, 12])
    sequences = Sequences(
        Items(tuple(map(str, range(9)))), np.concatenate([[0], np.cumsum(lengths)]), np.ones(73, dtype=np.int32)
    )
    starts, sizes = windows(sequences, 10, rng)
    reached = {
        int(event) for start, size in zip(starts, sizes, strict=True) for event in range(start + 1, start + size)
    }
    assert reached == set(range(73)) - {0, 1, 4, 61}
    assert sizes.max() <= 11
    packed = pack(starts, sizes)
    assert packed.events_T[packed.last.numpy()].tolist() == (starts + sizes - 1).tolist()
    assert sum(len(group.real) for group in packed.groups) == int(sizes.sum())


def test_the_command_judges_every_user_and_writes_its_figures(tmp_path: Path) -> None:
    _frame().to_parquet(tmp_path / "x.parquet")
    output = tmp_path / "out.json"
    words = ["benchmark", "sequences", "--interactions", str(tmp_path / "x.parquet"), "--ranker", "rules"]
    ended = CliRunner().invoke(app, [*words, "--train-on", "train+validation", "--seed", "3", "--output", str(output)])
    assert ended.exit_code == 0, ended.output
    content = json.loads(output.read_text())
    assert content["users"] == 40
    assert content["counts"]["items"] == 20
    assert 0 <= content["ndcg@10"] <= content["recall@10"] <= 1
    assert content["seed"] == 3
