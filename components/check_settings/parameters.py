"""The parameters of a run: how each one is written into the settings, and where a settings file gives its default.

A parameter stands for one key of the settings. What is compiled into a pipeline (`base_settings`) leaves these keys
out, and `settings_override` refuses them, so that no two places can disagree about a value.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from recommender.datasets.sources import SOURCES
from recommender.errors import SettingsError
from recommender.settings import (
    ClusterSettings,
    DecisionLogSettings,
    EventSettings,
    IsolationSettings,
    RetentionSettings,
    Settings,
    merged,
    settings_from_json,
)

KEYS = {
    "as_of": "time.as_of",
    "gate_from": "time.gate_from",
    "test_from": "time.test_from",
    "gate_campaigns": "time.gate_campaigns",
    "challenger": "training.challenger",
    "baselines": "training.baselines",
    "trials": "training.trials",
    "device": "training.device",
    "canary_share": "serving.canary_share",
    "source": "source.dataset",
}
"""Parameter -> the key of the settings that it gives. `source` also gives `source.mapping`."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?")
"""A date, or a time with or without a zone."""
FIXED = ("home", "store", "cluster")
"""Sections that are fixed when a pipeline is compiled: its pods are built by them."""
UNUSED = {
    "decision_log": DecisionLogSettings(),
    "events": EventSettings(),
    "isolation": IsolationSettings(),
    "retention": RetentionSettings(),
    "cluster": ClusterSettings(),
}
"""Sections that no step reads, with the values that stand for all others. So another value makes no step run again."""


def defaults(settings: Settings) -> dict[str, Any]:
    """The parameters' values that these settings give, `settings_override` (nothing) included."""
    time, training, source = json.loads(settings.model_dump_json())["time"], settings.training, settings.source
    return {
        "as_of": time["as_of"] or "",
        "gate_from": time["gate_from"] or "",
        "test_from": time["test_from"] or "",
        "gate_campaigns": time["gate_campaigns"] or 0,
        "challenger": training.challenger,
        "baselines": ", ".join(training.baselines),
        "trials": training.trials,
        "device": training.device,
        "canary_share": settings.serving.canary_share,
        "source": source.mapping if source.dataset == "files" else source.dataset,
        "settings_override": {},
    }


def base_settings(settings: Settings) -> str:
    """JSON of everything in these settings that is no parameter: what a pipeline fixes when it is compiled."""
    base = json.loads(settings.updated(**UNUSED).model_dump_json())
    for key in (*KEYS.values(), "source.mapping"):
        section, name = key.split(".")
        del base[section][name]
    return json.dumps(base, sort_keys=True)


def settings_of_run(base: str, given: Mapping[str, Any]) -> Settings:
    """The one settings object of a run.

    Args:
        base: what `base_settings` wrote.
        given: a value for each parameter, `settings_override` included. Empty text, and 0 `gate_campaigns`, leave the
            choice to the data and the rules.

    Raises:
        SettingsError: a value is not allowed, or the override has an unknown key, one of a parameter, or one that is
            fixed. Names the parameter or the key.
    """
    sections, override = json.loads(base), given["settings_override"]
    _refuse_no_moments(given)
    _refuse_keys_with_a_place(override)
    values = {name: value for name, value in given.items() if name != "settings_override"}
    values["baselines"] = [name.strip() for name in str(given["baselines"]).split(",") if name.strip()]
    values |= {name: values[name] or None for name in ("as_of", "gate_from", "test_from", "gate_campaigns")}
    source = str(given["source"]).strip()
    if source not in SOURCES and ("/" in source or "." in source):
        values["source"], sections["source"]["mapping"] = "files", source
    for name, value in values.items():
        section, key = KEYS[name].split(".")
        sections[section][key] = value
    # As JSON text: there a date stays a date, while a Python string would become a time at midnight, which is another
    # identity of every trained version.
    try:
        return settings_from_json(json.dumps(merged(sections, _whole(override))))
    except SettingsError as error:
        named = {key: name for name, key in KEYS.items()}
        shown = re.sub(r"settings: ([\w.]+)", lambda at: named.get(at[1], f"settings_override: {at[1]}"), str(error))
        raise SettingsError(shown) from None


def _refuse_no_moments(given: Mapping[str, Any]) -> None:
    """Refuse a text that is no date and no time, before it is read as seconds since 1970."""
    for name in ("as_of", "gate_from", "test_from"):
        text = str(given[name])
        if text and not MOMENT.fullmatch(text):
            raise SettingsError(f"{name}: {text!r} is neither a date (2017-12-31) nor a time (2017-12-31T18:00)")


def _refuse_keys_with_a_place(override: Mapping[str, Any]) -> None:
    of_parameters = {key: name for name, key in KEYS.items()} | {"source.mapping": "source"}
    for section, given in override.items():
        if section in FIXED:
            raise SettingsError(
                f"settings_override: {section} is fixed when the pipeline is compiled; change it in the settings file "
                "and compile again"
            )
        for key in given if isinstance(given, Mapping) else ():
            if f"{section}.{key}" in of_parameters:
                raise SettingsError(
                    f"settings_override: {section}.{key} has a parameter of its own; set "
                    f"{of_parameters[f'{section}.{key}']} instead"
                )


def by_parameter(message: str) -> str:
    """A message about the settings, where what a parameter gives is called by the parameter's name."""
    for name, key in KEYS.items():
        message = re.sub(rf"\b{re.escape(key)}\b", name, message)
    return message


def _whole(value: Any) -> Any:
    """`value` with whole numbers as int: KFP passes every number in a STRUCT as a float."""
    if isinstance(value, Mapping):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
