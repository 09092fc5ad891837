"""Each run has a champion to be measured against, from the first day."""

import json
from pathlib import Path

import pytest

from recommender.promotion.contest import enter
from recommender.registry import Registry
from recommender.storage.manifest import write_manifest


def candidate(folder: Path, ranker: str, configuration: str = "t1", features: tuple[str, ...] = ("base__a",)) -> Path:
    """A trained candidate as `training.train` leaves it, with a few bytes for weights."""
    bundle = folder / "fits" / "live"
    bundle.mkdir(parents=True)
    (bundle / "weights.safetensors").write_bytes(ranker.encode() * 50)
    (bundle / "schema.json").write_text(json.dumps({"features": features}))
    write_manifest(bundle, kind="bundle")
    identity = {"data_hash": "d1", "training_hash": configuration, "ranker": ranker, "code_version": "c1"}
    (folder / "lineage.json").write_text(json.dumps({**identity, "boundaries": {"live": "2017-12-31T05:00:00+00:00"}}))
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


@pytest.fixture
def baselines(tmp_path: Path) -> list[Path]:
    return [candidate(tmp_path / "popularity", "popularity"), candidate(tmp_path / "logistic", "logistic")]


def test_on_the_first_day_the_last_baseline_becomes_the_champion(
    registry: Registry, baselines: list[Path], tmp_path: Path
) -> None:
    entry = enter(registry, baselines=baselines, challenger=candidate(tmp_path / "transformer", "transformer"))
    assert entry.champion.startswith("logistic-")
    assert entry.challenger.startswith("transformer-")
    assert [version.split("-")[0] for version in entry.others] == ["popularity"]
    assert registry.champion() == entry.champion


def test_later_the_champion_stays_whoever_enters(registry: Registry, baselines: list[Path], tmp_path: Path) -> None:
    first = enter(registry, baselines=baselines, challenger=candidate(tmp_path / "transformer", "transformer"))
    registry.promote(first.challenger)
    changed = candidate(tmp_path / "changed", "transformer", configuration="t2")
    again = enter(registry, baselines=baselines, challenger=changed)
    assert again.champion == first.challenger
    assert again.challenger not in (first.challenger, first.champion)
    assert [version.split("-")[0] for version in again.others] == ["popularity", "logistic"]


def test_a_challenger_that_is_the_champion_meets_itself(
    registry: Registry, baselines: list[Path], tmp_path: Path
) -> None:
    transformer = candidate(tmp_path / "transformer", "transformer")
    first = enter(registry, baselines=baselines, challenger=transformer)
    registry.promote(first.challenger)
    again = enter(registry, baselines=baselines, challenger=transformer)
    assert again.champion == again.challenger == first.challenger


def test_a_champion_of_other_features_gives_way_to_its_ranker_trained_anew(
    registry: Registry, baselines: list[Path], tmp_path: Path
) -> None:
    first = enter(registry, baselines=baselines, challenger=candidate(tmp_path / "transformer", "transformer"))
    today = ("base__b",)
    anew = [
        candidate(tmp_path / "new-logistic", "logistic", "t2", features=today),
        candidate(tmp_path / "new-popularity", "popularity", "t2", features=()),
    ]
    again = enter(registry, baselines=anew, challenger=candidate(tmp_path / "new", "transformer", "t2", features=today))
    assert again.champion.startswith("logistic-")
    assert again.champion != first.champion
    assert "no longer exist" in str(registry.history()[-1])
    assert registry.rollback() == first.champion


def test_a_champion_stays_when_features_are_added(registry: Registry, baselines: list[Path], tmp_path: Path) -> None:
    first = enter(registry, baselines=baselines, challenger=candidate(tmp_path / "transformer", "transformer"))
    more = ("base__a", "campaign__type_new")
    again = enter(registry, baselines=baselines, challenger=candidate(tmp_path / "m", "transformer", features=more))
    assert again.champion == first.champion
