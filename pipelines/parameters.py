"""Parameters of a run: those of the compiled pipeline, with values that a person sets as text."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from recommender.errors import SettingsError, suggestion

KINDS = {
    "STRING": (str, "text"),
    "NUMBER_INTEGER": (int, "a whole number"),
    "NUMBER_DOUBLE": (float, "a number"),
    "BOOLEAN": (bool, "true or false"),
    "LIST": (list, 'a JSON list, such as ["popularity"]'),
    "STRUCT": (dict, 'a JSON object, such as {"training": {"seed": 1}}'),
}
"""KFP's parameter types: the Python type of a value, and how it is written."""


def read_specification(file: Path) -> dict[str, Any]:
    """The pipeline specification in a compiled file, without its second document, the pods' settings."""
    # The loader in C, because Python's takes half a second.
    specification: dict[str, Any] = next(yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    return specification


def arguments_of(specification: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """The parameters of a run: the defaults of the compiled pipeline and, over them, each `name=value`.

    Raises:
        SettingsError: a parameter is unknown, is set twice, or its value is not of its type. Names the parameter.
    """
    definitions: dict[str, dict[str, Any]] = specification["root"].get("inputDefinitions", {}).get("parameters", {})
    values = {name: one["defaultValue"] for name, one in definitions.items() if "defaultValue" in one}
    seen: set[str] = set()
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: write name=value; the names are {', '.join(sorted(definitions))}")
        if name not in definitions:
            near = suggestion(name, definitions)
            known = "" if near.startswith("known:") else f"; known: {', '.join(sorted(definitions))}"
            raise SettingsError(f"--set {name}: the pipeline has no such parameter; {near}{known}")
        if name in seen:
            raise SettingsError(f"--set {name} is given twice: give it once")
        seen.add(name)
        values[name] = _typed(name, text, definitions[name])
    missing = [name for name, one in definitions.items() if name not in values and not one.get("isOptional")]
    if missing:
        raise SettingsError(f"the pipeline's parameter {missing[0]!r} has no default: --set {missing[0]}=…")
    return values


def _typed(name: str, text: str, definition: Mapping[str, Any]) -> Any:
    kind = str(definition["parameterType"])
    wanted, words = KINDS[kind]
    if wanted is str:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise SettingsError(f"--set {name}={text}: {name} is {words}")
    return value
