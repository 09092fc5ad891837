"""The next-item commands overwrite no existing file, and refuse an impossible output path before they fit."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from next_item_benchmark import ask, benchmark_file

from recommender.errors import CorruptFileError, SettingsError
from recommender.registry import bundle


def events(path: Path) -> Path:
    """Six users walk round five items."""
    rows = [(f"u{user}", f"i{(user + pos) % 5}", pos) for user in range(6) for pos in range(4)]
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(path)
    return path


def benchmark(folder: Path, **more: Any) -> dict[str, Any]:
    return benchmark_file(events(folder / "events.parquet"), **{"output": folder / "out.json", **more})


def test_nothing_is_written_over_what_is_read_or_over_another_output(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    asked = events(tmp_path / "events.parquet")
    before = asked.read_bytes()
    with pytest.raises(SettingsError, match=r"events\.parquet: .*twice"):
        ask(tmp_path / "kept", asked, tmp_path / "kept" / ".." / "events.parquet", top=1)
    with pytest.raises(SettingsError, match=r"users\.parquet: .*twice"):
        ask(tmp_path / "kept", asked, tmp_path / "users.parquet", top=1, vectors=tmp_path)
    words: dict[str, Any] = {"ranker": "rules", "train_on": "train", "seed": 1}
    with pytest.raises(SettingsError, match=r"events\.parquet: .*twice"):
        benchmark_file(asked, None, output=asked, **words)
    with pytest.raises(SettingsError, match=r"o\.json: .*twice"):
        benchmark_file(asked, None, output=tmp_path / "o.json", readings=tmp_path / "o.json", **words)
    assert asked.read_bytes() == before


@pytest.mark.parametrize(
    "inside", [{"readings": "log.jsonl"}, {"checkpoints": "ck"}, {"output": "out.json"}, {"trials": 2, "study": "s.db"}]
)
def test_what_lies_in_the_bundles_folder_is_not_replaced_with_it(inside: dict[str, Any], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    placed = {name: kept / value if isinstance(value, str) else value for name, value in inside.items()}
    with pytest.raises(SettingsError, match=r"kept/.*: .*kept.* as a whole"):
        benchmark(tmp_path, bundle=kept, **placed)
    benchmark(tmp_path, bundle=kept)
    (kept / "empty").mkdir()
    benchmark(tmp_path, bundle=kept)
    asked = events(kept / "events.parquet")
    with pytest.raises(SettingsError, match=r"events\.parquet: this lies in"):
        benchmark_file(asked, None, ranker="rules", train_on="train", seed=1, output=tmp_path / "o.json", bundle=kept)
    with pytest.raises(SettingsError, match=r"kept/events\.parquet"):
        benchmark(tmp_path, bundle=kept)
    assert asked.is_file()


@pytest.mark.parametrize("name", ["what?.db", "l%20.db", "a b#c.db"])
def test_a_study_lies_where_it_was_named(name: str, tmp_path: Path) -> None:
    benchmark(tmp_path, trials=1, study=tmp_path / name)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"events.parquet", "out.json", name, name.removesuffix(".db") + ".json"}


@pytest.mark.parametrize("place", ["output", "checkpoints", "bundle", "program"])
def test_a_place_that_takes_no_file_is_refused_before_anything_is_fitted(place: str, tmp_path: Path) -> None:
    nowhere = Path("/proc") / "found"  # takes no file, not even root's
    with pytest.raises(SettingsError, match=r"^/proc.*: .*not writable"):
        benchmark(tmp_path, ranker="student", **{place: nowhere})
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"bundle": Path("papers")}, "papers: .*next-item bundle"),
        ({"bundle": Path("paper.txt")}, r"paper\.txt: .*next-item bundle"),
        ({"bundle": Path("nowhere/kept")}, "nowhere/kept: "),
        ({"output": Path("papers")}, "this is a folder"),
        ({"readings": Path("papers")}, "this is a folder"),
        ({"ranker": "sasrec", "program": Path("papers")}, "this is a folder"),
        ({"checkpoints": Path("paper.txt")}, "checkpoints need a folder"),
        ({"trials": 2, "study": Path("paper.txt")}, r"paper\.txt: "),
        ({"trials": 2, "study": Path("papers")}, "this is a folder"),
        ({"trials": 2, "study": Path("out.db")}, r"out\.json: .*twice"),
        ({"trials": 2, "study": Path("letter.db")}, r"letter\.json: .*letter\.db"),
        ({"output": Path("o" * 245)}, "244 bytes"),
        ({"bundle": Path("o" * 245)}, "244 bytes"),
        ({"ranker": "sasrec", "program": Path("o" * 240)}, "json: .*244 bytes"),
        ({"ranker": "content_rules", "config": {"text_cache": "pyproject.toml"}}, "text_cache .* this is a file"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_said_first(words: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    for path in (tmp_path / "papers" / "thesis.txt", tmp_path / "paper.txt", tmp_path / "letter.json"):
        path.write_text("years of work")
    placed = {name: tmp_path / value if isinstance(value, Path) else value for name, value in words.items()}
    with pytest.raises(SettingsError, match=message):
        benchmark(tmp_path, **placed)
    assert (tmp_path / "papers" / "thesis.txt").read_text() == (tmp_path / "paper.txt").read_text() == "years of work"
    with pytest.raises(CorruptFileError, match=r"paper\.txt: a file, not a folder"):
        bundle.load_items(tmp_path / "paper.txt")
