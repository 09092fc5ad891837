"""A bundle is loaded as it was saved, or refused with the reason."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from random_examples import fit_ranker, random_examples

from recommender.errors import BundleError, CorruptFileError
from recommender.registry import bundle
from recommender.storage.manifest import write_manifest


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    examples, labels = random_examples()
    ranker = fit_ranker("logistic", examples, labels)
    return bundle.save(ranker, tmp_path / "bundle", lineage={"data_hash": "d"})


def _edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_manifest(folder, kind="bundle")


@pytest.mark.parametrize("name", ["popularity", "logistic"])
def test_a_loaded_ranker_scores_to_the_same_bits_as_the_saved_one(name: str, tmp_path: Path) -> None:
    examples, labels = random_examples()
    ranker = fit_ranker(name, examples, labels)
    loaded = bundle.load(bundle.save(ranker, tmp_path / "bundle", lineage={}))
    assert np.array_equal(ranker.score(examples).redeem_N, loaded.score(examples).redeem_N)


def test_the_same_ranker_is_saved_to_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = bundle.save(bundle.load(saved), tmp_path / "again", lineage=bundle.lineage(saved))
    for file in saved.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


def test_a_flipped_bit_in_the_weights_names_the_file(saved: Path) -> None:
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 0b100
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"weights\.safetensors"):
        bundle.load(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "schema.json", "vocabulary.json"])
def test_a_truncated_or_missing_file_is_named(saved: Path, name: str) -> None:
    path = saved / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match=name):
        bundle.load(saved)
    path.unlink()
    with pytest.raises(CorruptFileError, match=name):
        bundle.load(saved)


def test_a_bundle_without_its_manifest_is_refused(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    with pytest.raises(CorruptFileError, match=r"manifest\.json"):
        bundle.load(saved)


def test_an_unknown_ranker_is_refused_with_the_known_ones(saved: Path) -> None:
    _edit_config(saved, ranker="oracle")
    with pytest.raises(BundleError, match=r"oracle.*logistic"):
        bundle.load(saved)


def test_a_newer_format_is_refused(saved: Path) -> None:
    _edit_config(saved, format=bundle.CALIBRATED + 1)
    with pytest.raises(BundleError, match=rf"config\.json.*\b{bundle.CALIBRATED + 1}\b"):
        bundle.load(saved)


def test_missing_features_are_refused_by_name_and_new_ones_are_not(saved: Path) -> None:
    names = json.loads((saved / "schema.json").read_text())["features"]
    assert bundle.load(saved, feature_names=[*names[::-1], "behaviour__z"]).name == "logistic"
    with pytest.raises(BundleError, match=rf"{re.escape(str(saved))}.*{names[-1]}"):
        bundle.load(saved, feature_names=[*names[:-1], "behaviour__z"])


def test_pairs_without_a_feature_of_the_training_are_refused_when_scoring(saved: Path) -> None:
    from dataclasses import replace

    examples, _ = random_examples()
    with pytest.raises(BundleError, match="behaviour__a"):
        bundle.load(saved).score(replace(examples, feature_names=("other", *examples.feature_names[1:])))


def test_an_environment_that_allows_pickled_weights_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(BundleError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        bundle.load(saved)


def test_a_failed_save_leaves_the_previous_bundle_whole(saved: Path) -> None:
    before = (saved / "manifest.json").read_bytes()

    class Failing(type(bundle.load(saved))):  # type: ignore[misc]
        def tensors(self):  # type: ignore[no-untyped-def]
            return {"weights": np.array(["text"])}

    broken = object.__new__(Failing)
    broken.__dict__.update(bundle.load(saved).__dict__)
    with pytest.raises(Exception, match=r".+"):
        bundle.save(broken, saved, lineage={})
    assert (saved / "manifest.json").read_bytes() == before
    assert bundle.load(saved).name == "logistic"
