"""Texts in any script on charts, in a terminal, in files' names and in exports."""

import io
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.answers import show
from cli.options import settings_of
from recommender.allocation.files import batch_writer
from recommender.report.axes import CHARACTER_PX, label_columns, shortened
from recommender.report.bars import bar_chart
from serving.request import MAX_BODY_BYTES, MAX_CANDIDATES, MAX_EXCLUDED, RecommendationRequest, parse

SCHEMA = pa.schema({"user_id": pa.string(), "score": pa.float32()})


@given(st.text(max_size=80), st.floats(40, 400))
def test_a_shortened_label_fits_and_is_the_beginning_of_the_label(label: str, width_px: float) -> None:
    short = shortened(label, width_px)
    assert label_columns(short) * CHARACTER_PX <= width_px
    assert short == label or (short.endswith("…") and label.startswith(short[:-1]))


def test_a_chinese_label_takes_twice_the_room_and_a_mark_none() -> None:
    assert label_columns("满减") == label_columns("fooo") == 4
    assert label_columns(unicodedata.normalize("NFD", "é")) == 1
    assert shortened("满减活动满减活动", 8 * CHARACTER_PX) == "满减活…"


def test_a_mark_stays_with_its_character() -> None:
    assert shortened("ab" + "e\u0301" * 5, 5 * CHARACTER_PX) == "abe\u0301e\u0301…"


def test_a_chart_leaves_room_for_chinese_labels() -> None:
    drawn = bar_chart("部门", {"家用电器与数码产品": 1.0, "食品": 2.0})
    assert ">家用电器与数码产品<" in drawn


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    item = {"name": "[red]apples[/]", "item_id": "[/x]", "reason": None}
    campaign = {"campaign_id": "[/]", "name": "[bold]满减", "score": 0.5, "items": [item], "reasons": ["[link]"]}
    answer = {"campaigns": [campaign], "model_version": "v", "variant": "champion", "feature_age_s": None}
    show(console, "Shopper [/顾客]", {**answer, "cold_start": False, "degraded": False})
    text = console.export_text()
    for word in ("[red]apples[/] ([/x])", "[bold]满减 ([/])", "[link]", "Shopper [/顾客]"):
        assert word in text


def test_a_mapping_with_the_longest_name_has_a_home_that_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["商" * 83 + "一.toml", "商" * 83 + "二.toml", "shop.toml"]
    homes = [settings_of(None, Path(name)).home for name in names]
    for home in homes:
        home.mkdir(parents=True)
    assert len(set(homes)) == 3
    assert homes[0].name.startswith("商商")
    assert homes[2].name.startswith("shop-")


def test_a_request_with_the_most_and_longest_chinese_ids_is_small_enough() -> None:
    ids = [f"{place:03}" + "店" * 197 for place in range(MAX_CANDIDATES)]
    context = {f"{place:02}" + "键" * 62: "值" * 500 for place in range(32)}
    request = RecommendationRequest(
        user_id="顾" * 200, campaign_ids=ids, exclude_campaign_ids=ids[:MAX_EXCLUDED], context=context
    )
    content = request.model_dump_json().encode()
    assert 300_000 < len(content) <= MAX_BODY_BYTES
    assert parse(RecommendationRequest, content) == request


@pytest.mark.parametrize("name", ["分数.csv", "scores.CSV", "scores.parquet", "scores"])
def test_scores_are_written_as_the_name_says_and_hold_ids_in_any_script(tmp_path: Path, name: str) -> None:
    ids = ["顾客一", "مستخدم", "a,b", 'say "hi"', "🍎", "007"]
    with batch_writer(tmp_path / "new" / name, SCHEMA) as write:
        write(pa.RecordBatch.from_pydict({"user_id": ids[:3], "score": [0.5] * 3}, schema=SCHEMA))
        write(pa.RecordBatch.from_pydict({"user_id": ids[3:], "score": [0.25] * 3}, schema=SCHEMA))
    path = tmp_path / "new" / name
    types = pyarrow.csv.ConvertOptions(column_types=SCHEMA)
    is_csv = name.lower().endswith(".csv")
    read = pyarrow.csv.read_csv(path, convert_options=types) if is_csv else pq.read_table(path)
    assert read["user_id"].to_pylist() == ids
    assert [found.name for found in path.parent.iterdir()] == [name]


def test_a_failed_export_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("before")
    with pytest.raises(RuntimeError), batch_writer(path, SCHEMA):
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
