"""Requests to the endpoint, in one type that carries a request from parsing to the decision record.

`RecommendationRequest` is parsed once. The gateway adds what it decides (`ScoringRequest`), the wire format carries
that to the worker, and the decision record keeps `RecommendationRequest.recorded`.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    model_validator,
)

from recommender.events.contract import Event, EventBatch, Identifier
from recommender.matching.rerank import BY_SCORE, Rerank
from recommender.policies.exploration import Exploration

MAX_CANDIDATES = 500
"""Campaigns that one request may name. Chosen by hand: far above any number of campaigns live at once."""
MAX_EXCLUDED = 100
"""Campaigns that one request may exclude. Chosen by hand: above any number of campaigns live at once."""
ABOUT_THE_ANSWER = ("num_campaigns", "num_items", "explain")
"""Fields that say how much to answer. The record holds the answer itself."""
RECORDED_AS = {"campaign_ids": "candidates", "exclude_campaign_ids": "excluded"}
"""Field of the request -> its name in the decision record, where it differs."""
MAX_BODY_BYTES = 524_288
"""512 KiB. The largest request (500 candidates and 100 excluded campaigns of 200 characters, 32 context entries) has
about 140 KB in ASCII and 420 KB in Chinese, whose characters have three bytes."""
MAX_PROBLEMS = 10
"""A refusal names at most this many wrong fields, so that it stays short whatever was sent. By hand."""
PROBE = {"user_id": "probe", "probe": True, "num_campaigns": 1, "num_items": 1}
"""The request that tells whether a version answers: the smallest one, for a user whom no store knows."""

# Lengths are chosen by hand: ample for identifiers and page names, and all of them together fit into MAX_BODY_BYTES.
ContextKey = Annotated[str, Field(min_length=1, max_length=64)]
ContextText = Annotated[str, Field(max_length=500)]
ContextNumber = Annotated[float, Field(allow_inf_nan=False)]


def _fits_64_bits(value: str | bool | int | float) -> str | bool | int | float:
    # Checked after the union: a bound on the union's `int` would let a larger integer through as a float.
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer beyond 64 bits")
    return value


ContextValue = Annotated[ContextText | bool | int | ContextNumber, AfterValidator(_fits_64_bits)]


def _whole(value: Any) -> Any:
    # JSON Schema, and so the API's description, calls 9.0 an integer; some languages write whole numbers so.
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)


class Strict(BaseModel):
    """A frozen model that converts no types and refuses unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class RecommendationRequest(Strict):
    """Body of /v1/recommendations: which user to recommend campaigns to, and how."""

    user_id: Identifier
    campaign_ids: Annotated[
        list[Identifier] | None,
        Field(
            min_length=1,
            max_length=MAX_CANDIDATES,
            description="The candidates. Left out: every live campaign.",
        ),
    ] = None
    exclude_campaign_ids: Annotated[
        list[Identifier],
        Field(
            max_length=MAX_EXCLUDED, description="Campaigns that are no candidates, such as those on the page already."
        ),
    ] = []
    # Numbers of campaigns and items: chosen by hand, a page's worth by default and an order of magnitude more at most.
    num_campaigns: Annotated[
        int, Field(ge=1, le=100, description="How many campaigns to answer with, at most."), WHOLE
    ] = 10
    num_items: Annotated[
        int, Field(ge=0, le=50, description="How many items of each campaign to show, at most."), WHOLE
    ] = 5
    explain: Annotated[
        bool,
        Field(description="Also say of each campaign which place it got and why, or at which stage it dropped out."),
    ] = False
    context: Annotated[
        dict[ContextKey, ContextValue],
        Field(max_length=32, description="Where and how the answer will be shown. Kept in the decision record."),
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        return value

    def recorded(self) -> dict[str, Any]:
        """The part of the request that the decision record keeps: every field but those about the answer's size."""
        return {recorded: getattr(self, name) for name, recorded in _RECORDED}


_RECORDED = [
    (name, RECORDED_AS.get(name, name)) for name in RecommendationRequest.model_fields if name not in ABOUT_THE_ANSWER
]


class DirectRequest(RecommendationRequest):
    """Body for TorchServe itself at /predictions/campaign_ranker: no assignment, no decision record."""

    as_of: Annotated[
        str | None, Field(max_length=40, description="Time of the decision, ISO 8601 with a time zone.")
    ] = None
    return_features: bool = False
    probe: Annotated[
        bool, Field(description="Score a user without features and without the store, to check that a model answers.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ScoringRequest:
    """A request with the gateway's decisions about it, as the worker and the popular list read it."""

    request: RecommendationRequest
    as_of_us: int
    """The moment of the decision, µs since 1970, UTC."""
    exploration: Exploration | None = None
    """None: the order is the ranker's alone."""
    allow_repeats: bool = False
    """Whether a campaign that the user has taken up is a candidate again."""
    answer_by_us: int | None = None
    """When the deadline passes, µs since 1970 on this machine's clock: later, nobody waits for a ranking. None: never.
    The worker and the gateway share a machine, and a clock that is set meanwhile costs one answer."""
    trace_id: str | None = None
    x_request_id: str | None = None
    """Ids of the request in the gateway's log lines, for a worker's line about it."""
    rerank: Rerank = BY_SCORE
    """How the model's campaigns are re-ranked. The popular list is not: it knows neither score nor user."""

    @property
    def ids(self) -> dict[str, str]:
        """The ids that are known, by their names in log lines and records."""
        known = {"trace_id": self.trace_id, "x_request_id": self.x_request_id}
        return {name: value for name, value in known.items() if value is not None}


class ExposureRequest(Strict):
    """Body of /v1/exposures: confirms that an answer was shown."""

    request_id: Annotated[str, Field(min_length=1, max_length=100)]
    campaign_ids: Annotated[
        list[Identifier] | None,
        Field(min_length=1, max_length=100, description="The campaigns of the answer that were shown. Left out: all."),
    ] = None


class OneOrMoreEvents(RootModel[Event | EventBatch]):
    """Body of /v1/events: one event, or several."""


class Problem(BaseModel):
    """One field that is wrong."""

    field: Annotated[str, Field(description="Path of the field, with dots. `body` if the body as a whole is wrong.")]
    problem: str


class InvalidRequest(Exception):
    """A body that breaks the contract. `problems` names every field that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.problem}" for problem in problems))
        self.problems = problems


_Request = TypeVar("_Request", bound=BaseModel)
_KEY = re.compile(rb'"([^"\\]{1,64})"\s*:')
_PLACE = re.compile(r"at line (\d+) column (\d+)")


def parse(model: type[_Request], content: bytes) -> _Request:
    """Parse a request body.

    Raises:
        InvalidRequest: Names the fields that are wrong, without repeating any value.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    problems: dict[str, str] = {}
    for problem in found:
        if problem["type"] == "json_invalid":
            problems[_field_at(content, problem["msg"])] = problem["msg"]
        elif len(inner := problem["loc"][_start(problem["loc"]) :]) > 2 and inner[0] == "context":
            problems.setdefault(_field(problem["loc"]), "should be a short text, a finite number, true or false")
        else:
            problems.setdefault(_field(problem["loc"]), problem["msg"])
    raise InvalidRequest([Problem(field=field, problem=text) for field, text in [*problems.items()][:MAX_PROBLEMS]])


def _field(place: tuple[int | str, ...]) -> str:
    if not place:
        return "body"
    # Pydantic appends the branch of a union to a value's place; the part that the client sent ends before it.
    depth = _start(place) + 2 if place[_start(place)] in ("context", "campaign_ids") else len(place)
    # A context key has at most 64 characters; a longer part is what the client made up.
    return ".".join(str(part)[:64] for part in place[:depth])


def _start(place: tuple[int | str, ...]) -> int:
    """Where the place within one request begins: in a batch behind `instances` and its number."""
    return 2 if place[:1] == ("instances",) and len(place) > 2 else 0


def _field_at(content: bytes, message: str) -> str:
    """The last key before the place where the body stops being JSON."""
    place = _PLACE.search(message)
    end = len(content)
    if place is not None:
        lines = content.split(b"\n")
        end = sum(len(line) + 1 for line in lines[: int(place[1]) - 1]) + int(place[2])
    keys = _KEY.findall(content, 0, end)
    return keys[-1].decode(errors="replace") if keys else "body"
