"""Keys of the settings: what a key holds, and the error that names a wrong one.

`settings` is the model that holds all sections, here and below.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ValidationError

from recommender.errors import LONGEST_VALUE, SettingsError, suggestion

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the outermost section to a value."""


def kind_at(path: KeyPath, settings: type[BaseModel]) -> Any:
    """The annotation of the value at `path` in the settings. None where there is no such key."""
    kind: Any = settings
    for part in path:
        if _is_model(kind):
            field = kind.model_fields.get(part)
            kind = None if field is None else field.annotation
        elif has_parts(kind):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        elif kind is not Any:
            return None
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def has_parts(kind: Any) -> bool:
    """Whether a value of this annotation has keys or places of its own: a section, a table or a list."""
    return _is_model(kind) or get_origin(kind) in (dict, tuple)


def refusal(
    error: ValidationError,
    origin: str,
    settings: type[BaseModel],
    environment: Mapping[str, Any] | None = None,
    variables: Mapping[KeyPath, str] | None = None,
) -> SettingsError:
    """The error for invalid settings. Names their origin, the key, the problem and the value."""
    problems: dict[str, str] = {}
    for one in error.errors(include_url=False):
        path = _key_part(one["loc"], settings)
        known = one["type"] != "extra_forbidden"
        held = _variable_of(path, one["msg"], known, environment or {}, variables or {})
        place = f"{held or origin}: {key_of(path)}".removesuffix(": ")
        # A union has one message for each of its members. The first describes what is wrong with the value.
        problems.setdefault(
            place, _problem(path, settings, one["type"], one["msg"].removeprefix("Value error, "), one["input"])
        )
    return SettingsError("; ".join(f"{place}: {problem}" for place, problem in problems.items()))


def _key_part(loc: KeyPath, settings: type[BaseModel]) -> KeyPath:
    """The keys of pydantic's location `loc`, without the name of a union's member at its end."""
    return next(
        loc[:end] for end in range(len(loc), -1, -1) if end == 0 or has_parts(kind_at(loc[: end - 1], settings))
    )


def key_of(path: KeyPath) -> str:
    """The key as it is written: `serving.port`."""
    return ".".join(map(str, path))


def _variable_of(
    path: KeyPath, problem: str, known: bool, environment: Mapping[str, Any], variables: Mapping[KeyPath, str]
) -> str:
    """The environment variable that holds the value at `path`. Empty if the environment does not.

    Below a section there may be several, of which only those whose key the problem names can be wrong. Below a section
    that is not `known`, each is.
    """
    value: Any = environment
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return ""
        value = value[part]
    for own, name in variables.items():
        above = own == path[: len(own)]
        below = own[: len(path)] == path and (not known or re.search(rf"\b{own[-1]}\b", problem))
        if path and (above or below):
            return f"environment variable {name}"
    return ""


def _problem(path: KeyPath, settings: type[BaseModel], error: str, message: str, value: Any) -> str:
    if error == "extra_forbidden":
        return f"unknown key; {suggestion(str(path[-1]), kind_at(path[:-1], settings).model_fields)}"
    if not isinstance(value, (str, int, float)) or _may_hold_a_secret(path, settings):
        return message
    return f"{message} (got {repr(value)[:LONGEST_VALUE]})"


def _may_hold_a_secret(path: KeyPath, settings: type[BaseModel]) -> bool:
    """Whether no message may repeat the value at `path`: a whole section given as text, or a field without `repr`."""
    above = kind_at(path[:-1], settings)
    return _is_model(kind_at(path, settings)) or (_is_model(above) and not above.model_fields[path[-1]].repr)
