"""Settings of the platform: frozen, validated models, read from one TOML file and the environment.

`load_settings` reads `recommender.toml` and variables such as `RECOMMENDER__SERVING__PORT=9000`. A pipeline step
receives the settings as JSON instead (`settings_from_json`), so that the cluster's cache key holds every value and
the step's own environment changes nothing. Nothing else reads settings, and `Settings.updated` is the only way to
change them: it validates again.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError

from recommender.errors import SettingsError
from recommender.settings.cluster import ClusterSettings, Toleration
from recommender.settings.decision_log import DecisionLogSettings
from recommender.settings.events import EventSettings
from recommender.settings.features import FeatureSettings, SparkSettings
from recommender.settings.isolation import IsolationSettings
from recommender.settings.keys import KeyPath, has_parts, key_of, kind_at, refusal
from recommender.settings.looks import LookSettings
from recommender.settings.monitoring import MonitoringSettings
from recommender.settings.online_store import OnlineStoreName, StoreSettings
from recommender.settings.sections import (
    DEFAULT_RESOURCES,
    ResourceSettings,
    RetentionSettings,
    Section,
    ServingSettings,
    SourceSettings,
    TimeSettings,
    TrainingSettings,
)

__all__ = [
    "DEFAULT_RESOURCES",
    "ClusterSettings",
    "DecisionLogSettings",
    "EventSettings",
    "FeatureSettings",
    "IsolationSettings",
    "LookSettings",
    "MonitoringSettings",
    "OnlineStoreName",
    "ResourceSettings",
    "RetentionSettings",
    "ServingSettings",
    "Settings",
    "SourceSettings",
    "SparkSettings",
    "StoreSettings",
    "TimeSettings",
    "Toleration",
    "TrainingSettings",
    "choose",
    "load_settings",
    "merged",
    "settings_from_json",
]

PREFIX, DELIMITER = "RECOMMENDER__", "__"
FILE_VARIABLE = "RECOMMENDER_SETTINGS"
Choice = TypeVar("Choice")


class Settings(Section):
    """All settings of the platform."""

    home: Path = Field(
        Path("var"),
        description="The folder for what outlives a run. On a cluster it is a mounted volume. See `storage.home.Home`.",
    )
    judgement: Path | None = Field(
        None,
        description="TOML file with the rules of the gate. None: judgement.toml in the working folder, or else the "
        "packaged rules.",
    )
    source: SourceSettings = SourceSettings()
    time: TimeSettings = TimeSettings()
    looks: LookSettings = LookSettings()
    features: FeatureSettings = FeatureSettings()
    training: TrainingSettings = TrainingSettings()
    store: StoreSettings = StoreSettings()
    serving: ServingSettings = ServingSettings()
    decision_log: DecisionLogSettings = DecisionLogSettings()
    events: EventSettings = EventSettings()
    isolation: IsolationSettings = IsolationSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    retention: RetentionSettings = RetentionSettings()
    resources: ResourceSettings = ResourceSettings()
    cluster: ClusterSettings = ClusterSettings()

    def updated(self, **changes: Any) -> Self:
        """These settings with `changes`, validated again.

        A mapping changes some keys of a section. A section replaces it.

        Raises:
            SettingsError: an unknown key or a value that is not allowed; names the key.
        """
        try:
            return type(self).model_validate(merged(self.model_dump(), changes))
        except ValidationError as error:
            raise refusal(error, "settings", Settings) from None


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from `file` (TOML), then the environment, then `overrides`: the last one wins.

    Without `file` it is the one that the environment variable RECOMMENDER_SETTINGS names, if any.

    Raises:
        SettingsError: the file is missing or not TOML, or a key is unknown or its value not allowed. Names the key,
            and the file or the environment variable that holds it. Suggests the nearest key.
    """
    if file is None and (named := os.environ.get(FILE_VARIABLE)):
        file = Path(named)
    variables: dict[KeyPath, str] = {
        tuple(name[len(PREFIX) :].lower().split(DELIMITER)): name
        for name in os.environ
        if name.upper().startswith(PREFIX)
    }
    environment = _from_environment(variables)
    values = merged({} if file is None else _from_file(file), environment)
    try:
        return Settings.model_validate(merged(values, overrides))
    except ValidationError as error:
        raise refusal(error, str(file or "settings"), Settings, environment, variables) from None


def settings_from_json(text: str) -> Settings:
    """Parse the settings that a pipeline step or a serving process received from its parent.

    Raises:
        SettingsError: the text is not JSON, a key is missing or unknown, or its value is not allowed; names the key.
    """
    try:
        settings = Settings.model_validate_json(text)
    except ValidationError as error:
        raise refusal(error, "settings", Settings) from None
    # A default in place of a missing section would run with other settings than the parent asked for.
    missing = [name for name in Settings.model_fields if name not in settings.model_fields_set]
    if missing:
        raise SettingsError(
            f"settings: {', '.join(missing)}: missing; a step needs all of `Settings.model_dump_json()`"
        )
    return settings


def choose(table: Mapping[str, Choice], name: str, key: str) -> Choice:
    """The entry of `table` that the settings' `key` names.

    Raises:
        SettingsError: there is no such entry; names the key and every entry there is.
    """
    if name in table:
        return table[name]
    raise SettingsError(f"{key}: unknown name {name!r}; choose one of {', '.join(table)}")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such settings file") from None
    except OSError as error:
        raise SettingsError(f"{file}: the settings file cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # also bytes that are not UTF-8
        raise SettingsError(f"{file}: cannot be read as TOML ({error})") from None


def _from_environment(variables: Mapping[KeyPath, str]) -> dict[str, Any]:
    """The values of RECOMMENDER__SECTION__KEY variables (`variables`: their names by path), nested."""
    given: dict[Any, Any] = {}
    # Shorter paths first: a variable of one key overrides the JSON of its whole section.
    for path in sorted(variables, key=len):
        place = given
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise SettingsError(
                    f"environment variable {variables[path]}: {key_of(path[:-1])} is one value, without keys"
                )
        place[path[-1]] = _from_text(variables[path], path)
    return given


def _from_text(variable: str, path: KeyPath) -> Any:
    """A variable's value: JSON where the key holds a list, a table or a whole section, else the text itself."""
    text, kind = os.environ[variable], kind_at(path, Settings)
    if not has_parts(kind) and kind is not Any:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if kind is Any:
            return text
        raise SettingsError(f"environment variable {variable}: {key_of(path)} must be JSON ({error})") from None


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, where a mapping changes only the keys that it names, at every depth."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(result.get(key), Mapping) and isinstance(value, Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
