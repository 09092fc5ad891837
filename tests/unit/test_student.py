"""The student learns the flagship's order, keeps it in eight bits, and is exported as a standalone program."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recommender.engine.compiler import has_compiler
from recommender.engine.context import FitContext
from recommender.errors import BundleError, SettingsError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item import export as exporting
from recommender.models.next_item.distillation import histories_before, teacher_lists
from recommender.models.next_item.export import TOLERANCE, export, inputs_of, require_exportable
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.int8 import rounded
from recommender.models.next_item.rules import Rules, RulesConfig
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.models.next_item.student import Student, StudentConfig
from recommender.sequences import Items, LeaveOneOut, Sequences

pytestmark = pytest.mark.usefixtures("quick_gate")

V, U = 24, 120
SMALL = {"width": 16, "epochs": 12, "tokens": 128, "rate": 0.01, "length": 12}
TEACHER = {"members": 1, "width": 16, "blocks": 1, "heads": 1, "epochs": 4, "tokens": 128}
ONE = FitContext(seed=5)


@cache
def split() -> LeaveOneOut:
    """Item i is followed by i + 1, in a circle."""
    rng = np.random.default_rng(4)
    lengths = rng.integers(5, 11, U)
    items_T = np.concatenate([(rng.integers(V) + np.arange(num)) % V + 1 for num in lengths]).astype(np.int32)
    items = Items(
        tuple(f"i{row}" for row in range(1, V + 1)),
        np.arange(V + 2).clip(1) - 1,
        np.arange(V, dtype=np.int32) // 4,
        V // 4,
    )
    return LeaveOneOut.of(Sequences(items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items_T))


def wanted(**given: Any) -> StudentConfig:
    """A small student's hyperparameters."""
    return StudentConfig.parse({**SMALL, **given}, owner="student")


@cache
def student() -> Student:
    config = wanted(teacher=TEACHER)
    return Student.fit(split().train, held_out_U=split().validation_U, config=config, context=ONE)


class Sure(Rules):
    """A teacher who is sure that item 7 comes next, whatever came before."""

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV = np.zeros((sequences.num_users, V + 1), dtype=np.float32)
        scores_UV[:, 7], scores_UV[:, 0] = 20.0, -np.inf
        return scores_UV


def sure_teacher() -> Rules:
    rules = Rules.fit(split().train, held_out_U=None, config=RulesConfig(), context=ONE)
    return Sure.restore(rules.tensors(), rules.config())


def test_a_student_learns_the_order() -> None:
    assert judge(student(), split().train_and_validation, split().test_U).summary()["ndcg@10"] > 0.9


def test_softness_is_how_far_a_student_follows_its_teacher() -> None:
    likings = []
    without = split().train.take(np.flatnonzero(np.bincount(split().train.rows_T(), split().train.items_T == 7) == 0))
    for softness in (0.0, 1.0):
        config = wanted(softness=softness)
        made = Student.taught(sure_teacher(), split().train, held_out_U=None, config=config, context=ONE)
        likings.append(np.mean(made.score(without)[:, 1:].argmax(axis=1) + 1 == 7))
    assert likings[0] < 0.2
    assert likings[1] > 0.95


def test_the_teacher_is_asked_about_the_past_of_an_event_alone() -> None:
    train = split().train
    events = np.array([1, int(train.offsets[3]) + 2])
    asked = histories_before(train, events)
    assert asked.lengths_U.tolist() == [1, 2]
    assert asked.items_T[1:].tolist() == train.items_T[train.offsets[3] : train.offsets[3] + 2].tolist()
    assert asked.users_U is None


def test_lists_are_probabilities_of_the_teachers_best_items_at_no_more_places_than_allowed() -> None:
    config = FusionConfig.parse(TEACHER, owner="fusion")
    teacher = Fusion.fit(split().train, held_out_U=split().validation_U, config=config, context=ONE)
    lists = teacher_lists(teacher, split().train, lists=50, listed=5, temperature=1.0, seed=1)
    assert (lists.place_T >= 0).sum() == 50
    assert not (lists.place_T[split().train.offsets[:-1]] >= 0).any()
    np.testing.assert_allclose(lists.shares_PK.sum(axis=1), 1, atol=1e-6)
    event = int(np.flatnonzero(lists.place_T == 10)[0])
    before = histories_before(split().train, np.array([event]))
    scores_V = teacher.score(before)[0]
    open_V = np.setdiff1d(np.argsort(-scores_V), before.items_T)
    assert set(lists.items_PK[10].tolist()) == set(sorted(open_V, key=lambda item: -scores_V[item])[:5])


@pytest.mark.parametrize("back", [False, True])
def test_what_a_user_had_is_taught_only_where_users_come_back(back: bool) -> None:
    offsets, items_T = np.array([0, 4, 8]), np.array([7, 1, 2, 7 if back else 3, 4, 5, 6, 8], dtype=np.int32)
    asked = Sequences(split().train.items, offsets, items_T)
    lists = teacher_lists(sure_teacher(), asked, lists=50, listed=1, temperature=1.0, seed=1)
    asked_of_first_K = lists.items_PK[lists.place_T[1:4], 0]
    assert (asked_of_first_K == 7).tolist() == [back] * 3


def test_what_was_chosen_teaches_a_second_student_without_anything_held_out() -> None:
    again = Student.fit(split().train, held_out_U=None, config=wanted(**student().chosen()), context=ONE)
    assert judge(again, split().train_and_validation, split().test_U).summary()["ndcg@10"] > 0.9


def test_students_that_want_the_same_of_their_teacher_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[object] = []
    fit = Fusion.fit

    def counted(*given: Any, **named: Any) -> Fusion:
        fitted.append(named["config"])
        return fit(*given, **named)

    monkeypatch.setattr(Fusion, "fit", counted)
    fits = Student.fits(split().train, held_out_U=split().validation_U, context=ONE)
    configs = [wanted(epochs=1, teacher=TEACHER, softness=softness) for softness in (0.2, 0.8)]
    made = [fits(config) for config in configs]
    assert len(fitted) == 1
    alone = Student.fit(split().train, held_out_U=split().validation_U, config=configs[1], context=ONE)
    np.testing.assert_array_equal(made[1].score(split().train), alone.score(split().train))
    assert made[0].chosen()["teacher"] == made[1].chosen()["teacher"]
    fits(configs[0].model_copy(update={"lists": 40}))
    assert len(fitted) == 3


def test_rounded_weights_are_off_by_half_a_scale_at_most() -> None:
    weight = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    weight[3] = 0
    small, scale = rounded(weight)
    assert small.dtype == torch.int8
    assert bool(((small.float() * scale - weight).abs() <= scale / 2 + 1e-7).all())


def test_int8_keeps_the_order_in_half_of_the_bytes_or_less_and_survives_a_bundle() -> None:
    whole, small = student(), student().in_int8()
    sizes = [sum(value.nbytes for value in one.tensors().values()) for one in (whole, small)]
    assert sizes[1] < sizes[0] / 2  # scales and biases weigh much at width 16
    off = np.abs(small.score(split().train)[:, 1:] - whole.score(split().train)[:, 1:])
    assert 0 < off.max() < 0.5
    assert judge(small, split().train_and_validation, split().test_U).summary()["ndcg@10"] > 0.9
    restored = Student.restore(small.tensors(), small.config())
    np.testing.assert_array_equal(restored.score(split().train), small.score(split().train))


def test_a_student_may_be_asked_for_in_int8() -> None:
    config = wanted(epochs=1, int8=True)
    made = Student.taught(sure_teacher(), split().train, held_out_U=None, config=config, context=ONE)
    assert made.tensors()["model.items.weight_VD"].dtype == np.int8


@pytest.mark.parametrize(
    ("int8", "compiled"),
    [
        (False, False),
        (True, False),
        pytest.param(
            False, True, marks=[pytest.mark.slow, pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")]
        ),
    ],
)
def test_the_exported_program_gives_the_rankers_scores_in_another_process(
    int8: bool, compiled: bool, tmp_path: Path
) -> None:
    ranker = student().in_int8() if int8 else student()
    path = tmp_path / "student.pt2"
    assert export(ranker, replace(split().train, users_U=None), path, compiled=compiled) <= TOLERANCE
    load = (
        "torch._inductor.aoti_load_package('student.pt2')" if compiled else "torch.export.load('student.pt2').module()"
    )
    some = split().train.take(np.array([4, 9, 2]))
    items_UL, lengths_U = inputs_of(some, 12)
    np.savez(tmp_path / "given.npz", items=items_UL.numpy(), lengths=lengths_U.numpy())
    code = (
        f"import sys, torch, numpy as np; given = np.load('given.npz'); program = {load};"
        "np.save('scores.npy', program(torch.from_numpy(given['items']), torch.from_numpy(given['lengths'])).numpy());"
        "assert 'recommender' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin"})
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy")[:, 1:], ranker.score(some)[:, 1:], atol=1e-4)
    facts = json.loads((tmp_path / "student.pt2.json").read_text())
    assert facts["items"] == list(split().train.items.ids)


def test_a_program_knows_the_cold_path(tmp_path: Path) -> None:
    export(student(), replace(split().train, users_U=None), tmp_path / "s.pt2")
    program = torch.export.load(tmp_path / "s.pt2").module()
    cold_V = program(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))[0].numpy()
    np.testing.assert_allclose(cold_V[1:], np.log1p(student().popularity_V)[1:], rtol=1e-6)
    assert np.isneginf(cold_V[0])


def test_an_attention_bias_and_places_are_exported_too(tmp_path: Path) -> None:
    config = SASRecConfig(width=8, blocks=2, heads=2, epochs=2, tokens=128, length=6)
    ranker = SASRec.fit(split().train, held_out_U=None, config=config, context=ONE)
    assert export(ranker, replace(split().train, users_U=None), tmp_path / "sasrec.pt2") <= TOLERANCE


@pytest.mark.parametrize(("length", "users"), [(2, 3), (6, 1)])
def test_a_program_of_two_events_or_one_user_is_exported(length: int, users: int, tmp_path: Path) -> None:
    config = SASRecConfig(width=8, blocks=1, heads=2, epochs=1, tokens=128, length=length)
    ranker = SASRec.fit(split().train, held_out_U=None, config=config, context=ONE)
    some = replace(split().train, users_U=None).take(np.arange(users))
    assert export(ranker, some, tmp_path / "sasrec.pt2") <= TOLERANCE
    program = torch.export.load(tmp_path / "sasrec.pt2").module()
    assert program(torch.ones(5, 2, dtype=torch.int64), torch.full((5,), 2)).shape == (5, split().train.items.num + 1)


def test_scores_that_differ_are_refused_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="differ"):
        export(student(), replace(split().train, users_U=None), tmp_path / "s.pt2")
    assert list(tmp_path.iterdir()) == []


def test_the_flagship_itself_cannot_be_exported() -> None:
    with pytest.raises(SettingsError, match=r"fusion.*sasrec.*student"):
        require_exportable(Fusion, compiled=False)


def test_a_compiled_program_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SettingsError, match=r"C\+\+ compiler"):
        require_exportable(Student, compiled=True)
