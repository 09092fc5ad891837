"""The proof that a refactoring changed no numbers detects one changed bit and ignores ids that belong to one run."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.nothing_moved import inputs
from benchmarks.nothing_moved.differences import first_difference, tensor_facts, tensors_apart
from benchmarks.nothing_moved.runs import IDS, without_ids


def saved(file: Path, *, bias: float) -> Path:
    save_file({"weight": np.zeros((3, 4), dtype=np.float32), "bias": np.array([1.0, bias])}, file)
    return file


def test_equal_weights_have_equal_facts(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one", bias=0.5), saved(tmp_path / "other", bias=0.5)
    assert first_difference(tensor_facts(one), tensor_facts(other)) is None


def test_a_weight_that_is_off_by_one_bit_is_seen_and_its_tensor_named(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one", bias=0.5), saved(tmp_path / "other", bias=float(np.nextafter(0.5, 1)))
    found = first_difference(tensor_facts(one), tensor_facts(other))
    assert found is not None
    assert found.startswith("bias.sha256")
    apart = tensors_apart(one, other)
    assert "1 of 2 tensors" in apart
    assert "bias F64 [2]: 1 of 2 elements, by 1.11e-16" in apart


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ({"auc": {"low": 0.1}}, {"auc": {"low": 0.1 + 2**-56}}, "auc.low"),
        ({"rows": [1, 2, 3]}, {"rows": [1, 2]}, "rows"),
        ({"rows": [{"a": 1}, {"a": 2}]}, {"rows": [{"a": 1}, {"a": 3}]}, "rows[1].a"),
        ({"a": 1}, {"a": 1, "b": 2}, "'b' is new"),
        ({"a": 1, "b": 2}, {"a": 1}, "'b' is missing"),
        ({"degraded": True}, {"degraded": 1}, "degraded"),
        ({"score": None}, {"score": 0.0}, "score"),
    ],
)
def test_the_place_of_a_difference_is_named(before: object, after: object, place: str) -> None:
    assert first_difference(before, before) is None
    assert place in (first_difference(before, after) or "")


def test_versions_become_their_rankers_and_ids_of_a_request_go() -> None:
    record = {"request_id": "1", "at": "noon", "as_of": "2024", "model_version": "item_cf-0123456789", "score": 0.1}
    assert without_ids([record], IDS) == [{"as_of": "2024", "model_version": "item_cf", "score": 0.1}]
    assert without_ids({"logistic-0123456789": "user-00001"}, IDS) == {"logistic": "user-00001"}


def test_the_same_inputs_are_drawn_each_time_and_200_questions_are_among_them() -> None:
    assert inputs.events() == inputs.events()
    assert inputs.requests() == inputs.requests()
    assert sum(request.kind == "answers" for request in inputs.requests()) == 200
