"""A file of events, from the command line: fit a ranker for use, ask it, search its hyperparameters."""

import json
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from recommender.registry import bundle
from recommender.training.next_items.tune import as_toml


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Forty users each walk round thirty items. Their last event is with an item that no other event has."""
    monkeypatch.chdir(tmp_path)
    rows = [(f"u{user}", f"i{(user + pos) % 30}", pos) for user in range(40) for pos in range(5)]
    frame = pd.DataFrame(rows, columns=["user", "item", "pos"])
    frame.loc[frame["pos"] == 4, "item"] = "newest"
    frame.to_csv("events.csv", index=False)
    return frame


def invoke(*words: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.stderr or result.exception
    return result.stdout, result.stderr


def test_a_fitted_ranker_has_learned_from_every_event_and_answers_each_user(events: pd.DataFrame) -> None:
    shown, _ = invoke("next-items", "fit", "--interactions", "events.csv", "--ranker", "rules", "--save", "kept")
    assert "40 users" in shown
    assert "NDCG@10 0.0000" in shown, "no user had the newest item before, so the first fit cannot know it"
    lineage = bundle.lineage(Path("kept"))
    assert lineage["held_out"]["users"] == 40
    assert {"code_version", "date", "hardware"} <= set(lineage)
    assert "newest" in bundle.load_items(Path("kept"))[1].ids
    pd.DataFrame({"user": ["a"], "item": ["i3"], "pos": [0]}).to_csv("asked.csv", index=False)
    words = ("--bundle", "kept", "--interactions", "asked.csv", "--output", "next.csv", "--top", "2")
    invoke("next-items", "ask", *words)
    answers = pd.read_csv("next.csv")
    assert answers["item"].tolist()[:1] == ["i4"], "what most users took after i3"
    assert answers["rank"].tolist() == [1, 2]


def test_the_old_spelling_answers_the_same_and_names_the_new_one(events: pd.DataFrame) -> None:
    invoke("next-items", "fit", "--interactions", "events.csv", "--ranker", "rules", "--save", "kept")
    words = ("--bundle", "kept", "--interactions", "events.csv", "--output")
    _, hint = invoke("next-items", *words, "old.csv")
    assert "next-items ask" in hint
    invoke("next-items", "ask", *words, "new.csv")
    assert Path("old.csv").read_bytes() == Path("new.csv").read_bytes()


def test_a_killed_fit_for_use_resumes_and_a_finished_one_trains_nothing_again(events: pd.DataFrame) -> None:
    small = [word for one in ("width=8", "epochs=1", "heads=1", "blocks=1") for word in ("--set", one)]
    words = ("--interactions", "events.csv", "--ranker", "sasrec", *small, "--checkpoints", "ck", "--save")
    invoke("next-items", "fit", *words, "kept")
    logs = {path: path.read_text() for path in Path("ck").rglob("progress.jsonl")}
    assert len(logs) == 2, "one of the judged fit and one of the kept"
    invoke("next-items", "fit", *words, "again")
    assert {path: path.read_text() for path in Path("ck").rglob("progress.jsonl")} == logs
    weights = [Path(folder, "weights.safetensors").read_bytes() for folder in ("kept", "again")]
    assert weights[0] == weights[1]


def test_a_program_is_written_beside_the_bundle(events: pd.DataFrame) -> None:
    small = [word for one in ("width=8", "epochs=1", "heads=1", "blocks=1") for word in ("--set", one)]
    words = ("--interactions", "events.csv", "--ranker", "sasrec", *small)
    shown, _ = invoke("next-items", "fit", *words, "--save", "kept", "--program", "p.pt2")
    assert "p.pt2" in shown
    assert len(json.loads(Path("p.pt2.json").read_text())["items"]) == 31


def test_a_search_writes_what_the_settings_file_and_fit_take(events: pd.DataFrame) -> None:
    words = ("--interactions", "events.csv", "--ranker", "rules", "--set", "window=3", "--study", "s.db")
    shown, _ = invoke("next-items", "tune", *words, "--trials", "2", "--output", "best.toml")
    invoke("next-items", "tune", *words, "--trials", "3", "--output", "best.json")
    trials = json.loads(Path("s.json").read_text())["trials"]
    assert len(trials) == 3, "the second call goes on where the first was"
    best = tomllib.loads(Path("best.toml").read_text())["training"]["rankers"]["rules"]
    assert best["window"] == 3
    assert best["decay"] == max(trials[:2], key=lambda one: one["ndcg@10"])["decay"]
    assert json.loads(Path("best.json").read_text())["window"] == 3
    assert "--set window=3" in shown


def test_hyperparameters_of_every_kind_are_toml() -> None:
    given = {"width": 8, "rate": 0.5, "int8": True, "text": 'a "b"', "teacher": {"members": 1}, "hidden": [8, 4]}
    assert tomllib.loads(as_toml("student", {**given, "dropout": None}))["training"]["rankers"]["student"] == given
