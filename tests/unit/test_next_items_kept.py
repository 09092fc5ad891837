"""A next-item ranker that is kept as a bundle is the one that was fitted, or it is refused."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from next_item_benchmark import SMALL, benchmark, benchmark_file
from next_item_benchmark import circle_walks as events

from recommender.datasets.interactions import read_histories
from recommender.errors import BundleError, SettingsError
from recommender.registry import bundle
from recommender.storage.manifest import write_manifest

pytestmark = pytest.mark.usefixtures("quick_gate")


@pytest.mark.parametrize("train_on", ["train", "train+validation"])
def test_the_ranker_that_is_kept_has_learned_from_everyones_last_events(train_on: str, tmp_path: Path) -> None:
    frame = pd.read_parquet(events(tmp_path / "events.parquet"))
    frame.loc[frame["pos"] == 4, "item"] = "newest"
    frame.to_parquet(tmp_path / "with-newest.parquet")
    words: dict[str, Any] = {
        "ranker": "item_popularity",
        "train_on": train_on,
        "seed": 1,
        "output": tmp_path / "out.json",
    }
    benchmark_file(tmp_path / "with-newest.parquet", None, **words, bundle=tmp_path / "kept")
    loaded, items = bundle.load_items(tmp_path / "kept")
    pd.DataFrame({"user": ["a"], "item": ["i1"], "pos": [0]}).to_csv(tmp_path / "asked.csv", index=False)
    scores_UV = loaded.score(read_histories(tmp_path / "asked.csv", items)[1])
    assert items.ids[scores_UV[0, 1:].argmax()] == "newest"


def test_a_bundle_can_be_read_by_whom_its_other_files_can_be_read_by(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "kept").iterdir()}
    assert modes["weights.safetensors"] == modes["config.json"]


@pytest.mark.parametrize("ranker", SMALL)
def test_a_vocabulary_of_another_number_of_items_is_refused(ranker: str, tmp_path: Path) -> None:
    benchmark(tmp_path, ranker=ranker, config=SMALL[ranker], bundle=tmp_path / "kept")
    names = list(bundle.load_items(tmp_path / "kept")[1].ids)
    for ids in (names[:-1], [*names, "one more"]):
        rewritten(tmp_path / "kept", {"items": ids})
        with pytest.raises(BundleError, match=rf"kept: .*\b{len(ids)}\b.*\b{len(names)}\b"):
            bundle.load_items(tmp_path / "kept")


@pytest.mark.parametrize("vocabulary", [{}, {"items": "i1"}, {"items": [1, 2]}, {"items": ["i1", "i1"]}])
def test_a_vocabulary_that_is_no_list_of_names_is_refused(vocabulary: dict[str, Any], tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    rewritten(tmp_path / "kept", vocabulary)
    with pytest.raises(BundleError, match=r"vocabulary\.json: .*items"):
        bundle.load_items(tmp_path / "kept")


def rewritten(kept: Path, vocabulary: dict[str, Any]) -> None:
    """Another vocabulary in a bundle, by someone who knows of the manifest."""
    (kept / "vocabulary.json").write_text(json.dumps(vocabulary))
    facts = json.loads((kept / "manifest.json").read_text())
    write_manifest(kept, **{name: value for name, value in facts.items() if name not in ("files", "content_hash")})


def test_bundles_of_the_two_kinds_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    with pytest.raises(BundleError, match="next-item bundle"):
        bundle.load(tmp_path / "kept")


def test_what_a_ranker_cannot_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="-3"):
        benchmark(tmp_path, seed=-3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(SettingsError, match=r"\brules\b.*CPU"):
        benchmark(tmp_path, device="cuda")
