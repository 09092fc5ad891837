"""A dial that cannot be is refused by name before anything is fitted; every value that a search tries can be."""

from typing import Any

import pytest

from recommender.engine.hyperparameters import Range
from recommender.errors import SettingsError
from recommender.models.next_item import ITEM_RANKERS, item_defaults_of, require_dials, searched_of


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("sasrec", {"wdith": 32}, "sasrec has no dial 'wdith'; it has .*width"),
        ("fusion", {"mix": 1}, "fusion has no dial 'mix'"),
        ("fusion", {"stop_at": 0.5}, "fusion has no dial 'stop_at'"),
        ("sasrec", {"length": 1}, "length is 1; it is at least 2"),
        ("bert4rec", {"length": 2}, "length is 2; it is at least 3"),
        ("fusion", {"precision": "fp8"}, "one of auto, fp32, bf16"),
        ("student", {"accumulate": 0}, "accumulate is 0; it is at least 1"),
        ("student", {"gated": "False"}, "true or false"),
        ("gru4rec", {"layers": 0}, "layers is 0; it is at least 1"),
        ("gru4rec", {"cell": "rnn"}, "one of gru, lstm"),
        ("two_tower", {"softmax": "half"}, "one of full, in-batch"),
        ("sasrec", {"blocks": 1.5}, "blocks is 1.5, not a whole number"),
        ("sasrec", {"patience": -1}, "patience is -1; it is at least 1"),
        ("sasrec", {"dropout": 2}, "dropout is 2; it is below 1"),
        ("sasrec", {"dropout": -1}, "dropout is -1; it is at least 0"),
        ("sasrec", {"rate": float("nan")}, "rate is nan; it is a finite number"),
        ("sasrec", {"rate": 0}, "rate is 0; it is above 0"),
        ("sasrec", {"rate": None}, "rate is None, not a number"),
        ("fusion", {"dropout": "abc"}, "dropout is 'abc', not a number"),
        ("fusion", {"tokens": [1]}, "not a number"),
        ("fusion", {"rate": True}, "not a number"),
        ("fusion", {"smoothing": 5}, "below 1"),
        ("fusion", {"text": 3}, "true, false or the folder of an encoder"),
        ("bert4rec", {"mask": 2}, "at most 1"),
        ("neural_cf", {"hidden": 5}, "a list of whole numbers"),
        ("neural_cf", {"hidden": []}, "a list of whole numbers"),
        ("als", {"confidence": -5}, "at least 0"),
        ("rules", {"read": -3}, "at least 1"),
        ("student", {"teacher": 3}, "not a table of dials"),
        ("student", {"teacher": {"epoch": 1}}, "fusion has no dial 'epoch'"),
        ("student", {"text_cache": 3}, "student has no dial"),
        ("content_rules", {"text_cache": 3}, "not a text"),
    ],
)
def test_what_cannot_be_is_refused(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        require_dials(name, given)


@pytest.mark.parametrize("name", ["content_rules", "fusion"])
@pytest.mark.parametrize("text", [True, False, "/models/another-encoder"])
def test_another_encoder_is_named_by_its_folder(name: str, text: bool | str) -> None:
    require_dials(name, {"text": text})


def test_a_dial_that_the_data_decide_may_be_left_to_them_or_set() -> None:
    require_dials("fusion", {"dropout": None, "tokens": None, "rate": None})
    require_dials("fusion", {"dropout": 0.3, "tokens": 2048, "rate": 0.001})


@pytest.mark.parametrize("name", sorted(ITEM_RANKERS))
def test_the_defaults_and_the_ends_of_every_search_can_be(name: str) -> None:
    require_dials(name, item_defaults_of(name))
    for dial, among in searched_of(name).items():
        for value in (among.low, among.high) if isinstance(among, Range) else among:
            require_dials(name, {dial: value})
