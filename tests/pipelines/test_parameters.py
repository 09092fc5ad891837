"""`--set name=value` gives a run's parameters their compiled types, and `--cron` its five fields their bounds."""

from typing import Any

import pytest

from pipelines.parameters import arguments_of
from pipelines.schedules import with_seconds, without_seconds
from recommender.errors import SettingsError

SPECIFICATION: dict[str, Any] = {
    "root": {
        "inputDefinitions": {
            "parameters": {
                "challenger": {"parameterType": "STRING", "defaultValue": "transformer"},
                "trials": {"parameterType": "NUMBER_INTEGER", "defaultValue": 0},
                "canary_share": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1},
                "caching": {"parameterType": "BOOLEAN", "defaultValue": True},
                "baselines": {"parameterType": "LIST", "defaultValue": ["popularity"]},
                "settings_override": {"parameterType": "STRUCT", "isOptional": True},
            }
        }
    }
}


def test_without_a_value_every_parameter_has_the_compiled_default() -> None:
    assert arguments_of(SPECIFICATION, ()) == {
        "challenger": "transformer",
        "trials": 0,
        "canary_share": 0.1,
        "caching": True,
        "baselines": ["popularity"],
    }


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("challenger=sasrec", "sasrec"),
        ("challenger=12", "12"),
        ("challenger=", ""),
        ("challenger=a=b", "a=b"),
        ("trials=20", 20),
        ("canary_share=0.05", 0.05),
        ("canary_share=1", 1.0),
        ("caching=false", False),
        ('baselines=["rules", "logistic"]', ["rules", "logistic"]),
        ('settings_override={"training": {"seed": 3}}', {"training": {"seed": 3}}),
    ],
)
def test_a_value_has_the_type_of_its_parameter(given: str, value: Any) -> None:
    arguments = arguments_of(SPECIFICATION, (given,))
    name = given.split("=")[0]
    assert arguments[name] == value
    assert type(arguments[name]) is type(value)


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ("chalenger=sasrec", ("chalenger", "'challenger'", "settings_override")),
        ("trials=many", ("trials", "many", "whole number")),
        ("trials=1.5", ("trials", "1.5")),
        ("trials=true", ("trials", "true")),
        ("canary_share=true", ("canary_share", "true")),
        ("caching=yes", ("caching", "yes", "true or false")),
        ("baselines=rules", ("baselines", "rules", "JSON list")),
        ("settings_override=[1]", ("settings_override", "JSON object")),
        ("challenger", ("challenger", "name=value")),
    ],
)
def test_a_wrong_name_or_value_is_refused_with_what_would_be_right(given: str, facts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        arguments_of(SPECIFICATION, (given,))
    for fact in facts:
        assert fact in str(caught.value)


def test_a_parameter_that_is_set_twice_or_has_no_value_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"trials.*twice"):
        arguments_of(SPECIFICATION, ("trials=1", "trials=2"))
    bare = {"root": {"inputDefinitions": {"parameters": {"source": {"parameterType": "STRING"}}}}}
    with pytest.raises(SettingsError, match=r"'source'.*--set source="):
        arguments_of(bare, ())


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 3 * * MON", "0 0 3 * * MON"),
        ("*/15 8-18 * * mon-fri", "0 */15 8-18 * * mon-fri"),
        ("  5   4  1,15 * * ", "0 5 4 1,15 * *"),
        ("0 0 1 JAN *", "0 0 0 1 JAN *"),
    ],
)
def test_five_fields_become_kfp_s_six_with_the_seconds_first(five: str, six: str) -> None:
    assert with_seconds(five) == six
    assert without_seconds(six) == " ".join(five.split())


@pytest.mark.parametrize(
    ("cron", "facts"),
    [
        ("0 0 3 * * MON", ("6 fields", "five")),
        ("@daily", ("1 fields",)),
        ("60 3 * * *", ("minute '60'", "0 and 59")),
        ("0 24 * * *", ("hour '24'", "0 and 23")),
        ("0 3 0 * *", ("day of month '0'",)),
        ("0 3 * * 7", ("day of week '7'", "0 and 6")),
        ("0 3 * * MOO", ("day of week 'MOO'",)),
        ("0 18-8 * * *", ("hour '18-8'", "before it begins")),
        ("*/0 * * * *", ("minute '*/0'", "step of 0")),
        ("0 3 * * MON,", ("day of week ''",)),
    ],
)
def test_an_impossible_cron_expression_is_refused_with_its_field(cron: str, facts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        with_seconds(cron)
    for fact in facts:
        assert fact in str(caught.value)
