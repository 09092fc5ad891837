"""Configurations of next-item rankers have fields with descriptions and bounds, and refuse wrong values by name."""

import json
from math import inf
from typing import Any, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt

from recommender.engine.hyperparameters import Choices, Hyperparameters, Range
from recommender.errors import SettingsError
from recommender.models.next_item import ITEM_RANKERS, item_ranker_class
from recommender.models.next_item.fusion import FusionConfig
from recommender.models.next_item.neural_cf import NeuralCFConfig
from recommender.models.next_item.sasrec import SASRecConfig
from recommender.models.next_item.student import StudentConfig

NAMES = sorted(ITEM_RANKERS)
CONFIGS = {name: item_ranker_class(name).Config for name in NAMES}
NUMBERS = [
    (name, key)
    for name in NAMES
    for key, field in CONFIGS[name].model_fields.items()
    if {int, float} & {field.annotation, *get_args(field.annotation)} and field.annotation != tuple[int, ...]
]


def bounds(config: type[Hyperparameters], key: str) -> list[Any]:
    return [one for one in config.model_fields[key].metadata if isinstance(one, (Ge, Gt, Le, Lt))]


def below(config: type[Hyperparameters], key: str) -> float:
    """A number of the field's kind that lies just below its least allowed value."""
    (bound,) = (one for one in bounds(config, key) if isinstance(one, (Ge, Gt)))
    return bound.ge - 1 if isinstance(bound, Ge) else bound.gt


@pytest.mark.parametrize("name", NAMES)
def test_every_hyperparameter_has_a_description_and_a_valid_default(name: str) -> None:
    config = CONFIGS[name]
    assert config.parse({}, owner=name) == config()
    for key, field in config.model_fields.items():
        assert field.description, key
        assert not field.is_required(), key


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_every_number_has_a_least_value_and_one_below_it_is_refused_by_name(name: str, key: str) -> None:
    wrong = below(CONFIGS[name], key)
    with pytest.raises(SettingsError) as refused:
        CONFIGS[name].parse({key: wrong}, owner=name)
    message = str(refused.value)
    assert name in message
    assert key in message
    assert str(wrong) in message


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_hyperparameter_is_refused_with_the_nearest_right_one(name: str) -> None:
    for key in CONFIGS[name].user_fields():
        misspelt = f"{key}x"
        with pytest.raises(SettingsError) as refused:
            CONFIGS[name].parse({misspelt: 1}, owner=name)
        assert name in str(refused.value)
        assert repr(misspelt) in str(refused.value)
        assert repr(key) in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_space_lies_within_the_bounds_and_around_the_default(name: str) -> None:
    config = CONFIGS[name]
    assert config.search_space()
    for key, among in config.search_space().items():
        assert isinstance(among, (Range, Choices))
        values = (among.low, among.high) if isinstance(among, Range) else among.values
        for value in values:
            assert getattr(config.parse({key: value}, owner=name), key) == value
        default = config.model_fields[key].default
        if isinstance(among, Range):
            assert default is None or among.low <= default <= among.high, key
        else:
            assert default in among.values, key


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_survives_json(name: str) -> None:
    config = CONFIGS[name]()
    assert CONFIGS[name].model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize("name", NAMES)
def test_what_an_earlier_fit_sets_is_read_but_not_offered(name: str) -> None:
    set_by_fit = CONFIGS[name].model_fields.keys() - CONFIGS[name].user_fields().keys()
    assert set_by_fit <= {"stop_at", "mix"}
    with pytest.raises(SettingsError) as refused:
        CONFIGS[name].parse({"xxxxxxxx": 1}, owner=name)
    assert "stop_at" not in str(refused.value)
    for key in set_by_fit:
        assert getattr(CONFIGS[name].parse({key: None}, owner=name), key) is None


@pytest.mark.parametrize(
    ("name", "given", "facts"),
    [
        ("sasrec", {"wdith": 32}, ("'wdith'", "'width'")),
        ("fusion", {"mix": 1}, ("mix", "1")),
        ("fusion", {"stop_at": 0.5}, ("stop_at", "0.5")),
        ("fusion", {"stop_at": [0.5, 1.5]}, ("stop_at", "1.5")),
        ("sasrec", {"stop_at": 1.5}, ("stop_at", "1.5")),
        ("sasrec", {"length": 1}, ("length", "2", "1")),
        ("bert4rec", {"length": 2}, ("length", "3", "2")),
        ("gru4rec", {"length": 1}, ("length", "2", "1")),
        ("student", {"length": 1}, ("length", "2", "1")),
        ("fusion", {"length": 1}, ("length", "2", "1")),
        ("fusion", {"precision": "fp8"}, ("precision", "auto", "fp32", "bf16", "'fp8'")),
        ("student", {"accumulate": 0}, ("accumulate", "1", "0")),
        ("student", {"gated": "False"}, ("gated", "'False'")),
        ("student", {"timed": True}, ("'timed'",)),
        ("gru4rec", {"layers": 0}, ("layers", "1", "0")),
        ("gru4rec", {"cell": "rnn"}, ("cell", "gru", "lstm", "'rnn'")),
        ("two_tower", {"softmax": "half"}, ("softmax", "full", "in-batch", "'half'")),
        ("sasrec", {"blocks": 1.5}, ("blocks", "integer", "1.5")),
        ("sasrec", {"blocks": True}, ("blocks", "integer", "True")),
        ("sasrec", {"patience": -1}, ("patience", "1", "-1")),
        ("sasrec", {"dropout": 2}, ("dropout", "1", "2")),
        ("sasrec", {"dropout": 1.0}, ("dropout", "1.0")),
        ("sasrec", {"dropout": -1}, ("dropout", "0", "-1")),
        ("sasrec", {"rate": float("nan")}, ("rate", "finite", "nan")),
        ("sasrec", {"rate": inf}, ("rate", "finite", "inf")),
        ("sasrec", {"rate": 0}, ("rate", "0")),
        ("sasrec", {"rate": None}, ("rate", "None")),
        ("sasrec", {"heads": 3}, ("width", "64", "heads", "3")),
        ("bert4rec", {"width": 7}, ("width", "7", "heads", "2")),
        ("student", {"heads": 5}, ("width", "32", "heads", "5")),
        ("fusion", {"dropout": "abc"}, ("dropout", "'abc'")),
        ("fusion", {"tokens": [1]}, ("tokens", "[1]")),
        ("fusion", {"rate": True}, ("rate", "True")),
        ("fusion", {"smoothing": 5}, ("smoothing", "1", "5")),
        ("fusion", {"text": 3}, ("text", "3")),
        ("bert4rec", {"mask": 2}, ("mask", "1", "2")),
        ("bert4rec", {"last": 1.5}, ("last", "1", "1.5")),
        ("student", {"softness": 1.5}, ("softness", "1", "1.5")),
        ("caser", {"new_users": 1.5}, ("new_users", "1", "1.5")),
        ("two_tower", {"item_dropout": 1.0}, ("item_dropout", "1", "1.0")),
        ("neural_cf", {"hidden": 5}, ("hidden", "5")),
        ("neural_cf", {"hidden": []}, ("hidden", "1", "[]")),
        ("neural_cf", {"hidden": [16, 0]}, ("hidden", "1", "0")),
        ("als", {"confidence": -5}, ("confidence", "0", "-5")),
        ("rules", {"read": -3}, ("read", "1", "-3")),
        ("student", {"teacher": 3}, ("teacher", "3")),
        ("student", {"teacher": {"epoch": 1}}, ("'teacher.epoch'", "'epochs'")),
        ("student", {"teacher": {"epochs": 0}}, ("teacher.epochs", "1", "0")),
        ("student", {"text_cache": 3}, ("'text_cache'",)),
        ("content_rules", {"text_cache": 3}, ("text_cache", "3")),
        ("content_rules", {"text_cache": __file__}, ("text_cache", "folder", __file__)),
    ],
)
def test_what_is_not_allowed_is_refused_with_name_value_and_bound(
    name: str, given: dict[str, Any], facts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as refused:
        CONFIGS[name].parse(given, owner=name)
    assert all(fact in str(refused.value) for fact in (name, *facts)), refused.value


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)wdith.*rate|rate.*wdith"):
        SASRecConfig.parse({"wdith": 32, "rate": -1.0}, owner="sasrec")


@pytest.mark.parametrize("name", ["content_rules", "fusion"])
@pytest.mark.parametrize("text", [True, False, "/models/another-encoder"])
def test_another_encoder_is_named_by_its_folder(name: str, text: bool | str) -> None:
    assert CONFIGS[name].parse({"text": text}, owner=name).model_dump()["text"] == text


def test_a_hyperparameter_that_the_data_decide_may_be_left_to_them_or_set() -> None:
    FusionConfig.parse({"dropout": None, "tokens": None, "rate": None}, owner="fusion")
    given = FusionConfig.parse({"dropout": 0.3, "tokens": 2048, "rate": 0.001}, owner="fusion")
    assert (given.dropout, given.tokens, given.rate) == (0.3, 2048, 0.001)


def test_kubeflows_floats_stand_for_integers() -> None:
    assert SASRecConfig.parse({"width": 32.0, "min_steps": 10.0}, owner="sasrec").width == 32
    assert NeuralCFConfig.parse({"hidden": [16.0, 8.0]}, owner="neural_cf").hidden == (16, 8)
    assert StudentConfig.parse({"teacher": {"members": 1.0}}, owner="student").teacher.members == 1


def test_a_student_s_teacher_has_the_student_s_own_values_unless_it_has_others() -> None:
    config = StudentConfig.parse(
        {"accumulate": 2, "precision": "fp32", "teacher": {"precision": "bf16"}}, owner="student"
    )
    assert config.of_teacher().accumulate == 2
    assert config.of_teacher().precision == "bf16"
    again = StudentConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again.of_teacher() == config.of_teacher()
