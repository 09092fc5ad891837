"""Hyperparameters of campaign rankers have descriptions and bounds, and wrong ones are refused by name."""

import math
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from recommender.engine.hyperparameters import Range
from recommender.errors import BundleError, SettingsError
from recommender.models.campaign import OWN_RANKERS, RANKERS, ranker_class


def is_number(field: FieldInfo) -> bool:
    return field.annotation in (int, float, int | None, float | None)


@pytest.mark.parametrize("name", RANKERS)
def test_every_hyperparameter_is_described_and_every_number_bounded(name: str) -> None:
    for key, field in ranker_class(name).Config.model_fields.items():
        assert field.description, f"{name}.{key}"
        assert field.description.endswith("."), f"{name}.{key}"
        bounded = any(isinstance(one, (Ge, Gt, Le, Lt)) for one in field.metadata)
        assert bounded or not is_number(field), f"{name}.{key}"


@pytest.mark.parametrize("name", RANKERS)
def test_a_misspelt_hyperparameter_is_refused_with_the_nearest_right_one(name: str) -> None:
    config = ranker_class(name).Config
    for key in config.user_fields():
        with pytest.raises(SettingsError) as raised:
            config.parse({f"{key}z": 1}, owner=name)
        assert f"{key}z" in str(raised.value)
        assert name in str(raised.value)
        assert f"{key!r}" in str(raised.value)


@pytest.mark.parametrize("name", RANKERS)
def test_defaults_and_the_ends_of_every_search_are_allowed(name: str) -> None:
    config = ranker_class(name).Config
    assert config.parse(config().model_dump(), owner=name) == config()
    for key, among in config.search_space().items():
        values = (among.low, among.high) if isinstance(among, Range) else among.values
        for value in values:
            assert getattr(config.parse({key: value}, owner=name), key) == value


@pytest.mark.parametrize("name", RANKERS)
def test_a_configuration_never_changes(name: str) -> None:
    config = ranker_class(name).Config()
    with pytest.raises(ValidationError):
        setattr(config, next(iter(type(config).model_fields)), 1)


@pytest.mark.parametrize(
    ("name", "given", "facts"),
    [
        ("logistic", {"strength": 0}, ("strength", "0")),
        ("logistic", {"ridge": -1}, ("ridge", "-1")),
        ("logistic", {"clip": math.nan}, ("clip", "nan")),
        ("logistic", {"clip": "wide"}, ("clip", "'wide'")),
        ("logistic", {"clip": True}, ("clip", "True")),
        ("popularity", {"prior_pairs": math.inf}, ("prior_pairs", "inf")),
        ("rate_rule", {"rate_feature": ""}, ("rate_feature", "''")),
        ("lightgbm", {"rounds": 1.5}, ("rounds", "1.5")),
        ("lightgbm", {"leaves": 1}, ("leaves", "1", "2")),
        ("lightgbm", {"pair_share": 1.1}, ("pair_share", "1.1")),
        ("transformer", {"width": 63}, ("width", "63", "heads", "2")),
        ("transformer", {"tune_dropout": 1}, ("tune_dropout", "1")),
        ("transformer", {"members": 0}, ("members", "0")),
        ("rules", {"campaign_events": 0}, ("campaign_events", "0")),
        ("rules", {"campaign_choose": "yes"}, ("campaign_choose", "'yes'")),
    ],
)
def test_a_value_that_is_not_allowed_is_named(name: str, given: dict[str, Any], facts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as raised:
        ranker_class(name).Config.parse(given, owner=name)
    assert all(fact in str(raised.value) for fact in (name, *facts))


def test_a_whole_number_may_come_as_a_float_as_kubeflow_passes_it() -> None:
    parsed = ranker_class("lightgbm").Config.parse({"rounds": 20.0, "penalty": 1}, owner="lightgbm").model_dump()
    assert (parsed["rounds"], type(parsed["rounds"])) == (20, int)
    assert (parsed["penalty"], type(parsed["penalty"])) == (1.0, float)


@pytest.mark.parametrize("name", ["logistc", "sasrek"])
def test_an_unknown_ranker_is_refused_with_the_nearest_one(name: str) -> None:
    with pytest.raises(BundleError, match={"logistc": "'logistic'", "sasrek": "'sasrec'"}[name]):
        ranker_class(name)


def test_every_ranker_made_for_campaigns_has_a_configuration_of_its_own() -> None:
    configs = [ranker_class(name).Config for name in OWN_RANKERS]
    assert len(set(configs)) == len(OWN_RANKERS)
