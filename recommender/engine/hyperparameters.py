"""Hyperparameters as frozen pydantic models: types, bounds, meaning and search space are declared on the fields.

    class SASRecConfig(Hyperparameters):
        width: Annotated[int, Choices(64, 128)] = Field(64, ge=1, description="Embedding size D.")
        dropout: Annotated[float, Range(0.0, 0.6)] = Field(0.2, ge=0, lt=1, description="Share of values set to 0.")
        stop_at: Annotated[float | None, SET_BY_FIT] = Field(None, gt=0, le=1, description="Set by an earlier fit: …")

A field with a `Range` or `Choices` belongs to the search space. One without is never searched. A field with
`SET_BY_FIT` carries a value from one fit to the next and is not offered to users.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from recommender.errors import SettingsError, suggestion


@dataclass(frozen=True)
class Range:
    """Search space of a number: from `low` to `high`, both included.

    It holds whole numbers only where both ends are whole. With `log` it is searched evenly in the logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, init=False)
class Choices:
    """Search space of a few values."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class SetByFit:
    """Marks a field whose value an earlier fit chose. It is valid input, but not listed or suggested to users."""


SET_BY_FIT = SetByFit()
Space = Mapping[str, Range | Choices]
"""Hyperparameter -> the values that a search may choose among."""


class Hyperparameters(BaseModel):
    """Base of every ranker's configuration. It is frozen and refuses unknown names and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _whole_floats_are_integers(cls, given: Any) -> Any:
        """Kubeflow passes every number inside a dict as a float, so 3.0 stands for 3 where an integer is wanted."""
        if not isinstance(given, Mapping):
            return given
        return {name: _as_integer(value) if cls._takes_integer(name) else value for name, value in given.items()}

    @classmethod
    def _takes_integer(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and _holds_integers(field.annotation)

    @classmethod
    def parse(cls, given: Mapping[str, Any], *, owner: str) -> Self:
        """Return the configuration of `owner` (a ranker's name) with the values `given` and defaults for the rest.

        Raises:
            SettingsError: a hyperparameter is unknown (names the nearest known one) or its value is not allowed (names
                the hyperparameter, the value and what is allowed).
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError("; ".join(cls._problems(owner, error))) from None

    @classmethod
    def _problems(cls, owner: str, error: ValidationError) -> list[str]:
        """Write one sentence for each hyperparameter that is wrong."""
        found: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        for problem in error.errors(include_url=False):
            model, names = cls._located(problem["loc"])
            place = ".".join(names)
            if problem["type"] == "extra_forbidden":
                found[f"unknown hyperparameter {place!r} for {owner}; {model._hint(names[-1])}"] = []
                continue
            found.setdefault(place, []).append(_plain(problem["msg"]))
            values[place] = problem["input"]
        sentences = []
        for place, messages in found.items():
            if not messages:
                sentences.append(place)
            elif not place:
                sentences.append(f"{owner}: {' or '.join(messages)}")
            else:
                first, *others = messages
                allowed = " or ".join([first, *(message.removeprefix("must be ") for message in others)])
                sentences.append(f"{owner}: {place} {allowed} (got {values[place]!r})")
        return sentences

    @classmethod
    def _located(cls, loc: tuple[int | str, ...]) -> tuple[type["Hyperparameters"], list[str]]:
        """Return the model that an error's location leads to, and the names on the path, without union members."""
        model: type[Hyperparameters] = cls
        names: list[str] = []
        inside = True
        for part in loc:
            if isinstance(part, int) or not inside:
                names += [str(part)] if isinstance(part, int) else []
                continue
            names.append(part)
            field = model.model_fields.get(part)
            kind = None if field is None else field.annotation
            inside = isinstance(kind, type) and issubclass(kind, Hyperparameters)
            if inside:
                model = kind  # type: ignore[assignment]
        return model, names

    @classmethod
    def _hint(cls, name: str) -> str:
        """Name the known hyperparameter nearest to `name`, or all of them if none is near."""
        return suggestion(name, cls.user_fields())

    @classmethod
    def user_fields(cls) -> dict[str, FieldInfo]:
        """Return name -> field of the hyperparameters that a user may choose: all that no earlier fit sets."""
        return {name: field for name, field in cls.model_fields.items() if SET_BY_FIT not in field.metadata}

    @classmethod
    def search_space(cls) -> Space:
        """Return hyperparameter -> the values that a search may choose among."""
        return {
            name: among
            for name, field in cls.model_fields.items()
            for among in field.metadata
            if isinstance(among, (Range, Choices))
        }


def _holds_integers(annotation: Any) -> bool:
    """Return whether a type is int, or a union or tuple with it."""
    return annotation is int or any(_holds_integers(part) for part in get_args(annotation))


def _as_integer(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_integer(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(message: str) -> str:
    """Turn a message of pydantic into the end of a sentence that begins with the hyperparameter's name."""
    message = message.removeprefix("Value error, ")
    return re.sub(r"^(Input|Tuple|List|Dictionary|String|Value) should ", "must ", message)
