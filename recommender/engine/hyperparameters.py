"""Hyperparameters as frozen pydantic models: types, bounds, meaning and search space stand on the fields.

    class SASRecConfig(Hyperparameters):
        width: Annotated[int, Choices(64, 128)] = Field(64, ge=1, description="Embedding size D.")
        dropout: Annotated[float, Range(0.0, 0.6)] = Field(0.2, ge=0, lt=1, description="Share of values set to zero in training.")

A field with a `Range` or `Choices` belongs to the search space; one without is never searched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from recommender.errors import SettingsError


@dataclass(frozen=True)
class Range:
    """Search space of a number: from `low` to `high`, both included. Whole numbers where both ends are; `log`: even in the logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, init=False)
class Choices:
    """Search space of a few values."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)


Space = Mapping[str, Range | Choices | tuple[Any, ...]]
"""Hyperparameter -> the values that a search may choose among."""


class Hyperparameters(BaseModel):
    """Base of every ranker's configuration. Frozen; an unknown name or a value of another type is refused."""

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
        return field is not None and field.annotation in (int, int | None)

    @classmethod
    def parse(cls, given: Mapping[str, Any], *, owner: str) -> Self:
        """The configuration of `owner` (a ranker's name) with the values `given` and defaults for the rest.

        Raises:
            SettingsError: a hyperparameter is unknown (names the nearest known one) or its value is not allowed (names the
                hyperparameter, the value and what is allowed).
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = "; ".join(cls._problem(owner, one) for one in error.errors(include_url=False))
            raise SettingsError(problems) from None

    @classmethod
    def _problem(cls, owner: str, error: Any) -> str:
        place = ".".join(map(str, error["loc"]))
        if error["type"] == "extra_forbidden":
            near = get_close_matches(place, cls.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known ones: {', '.join(sorted(cls.model_fields))}"
            return f"unknown hyperparameter {place!r} for {owner}; {hint}"
        message = error["msg"].removeprefix("Value error, ")
        return f"{owner}: {place}: {message} (got {error['input']!r})" if place else f"{owner}: {message}"

    @classmethod
    def search_space(cls) -> Space:
        """Hyperparameter -> the values that a search may choose among."""
        return {
            name: among
            for name, field in cls.model_fields.items()
            for among in field.metadata
            if isinstance(among, (Range, Choices))
        }


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
