"""The door's contract: what may be asked, what is answered, and how a refusal says which field was wrong."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_CANDIDATES = 500
MAX_BODY_BYTES = 262_144

Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
ContextKey = Annotated[str, Field(min_length=1, max_length=64)]
ContextText = Annotated[str, Field(max_length=500)]
ContextNumber = Annotated[float, Field(allow_inf_nan=False)]


def _of_64_bits(value: str | bool | int | float) -> str | bool | int | float:
    # Behind the union: a bound on its `int` would let a larger integer through as a float.
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer beyond 64 bits")
    return value


ContextValue = Annotated[ContextText | bool | int | ContextNumber, AfterValidator(_of_64_bits)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class RecommendationRequest(Strict):
    """Which campaigns to put before this user?"""

    user_id: Identifier
    campaign_ids: Annotated[
        list[Identifier] | None,
        Field(
            min_length=1,
            max_length=MAX_CANDIDATES,
            description="Only these campaigns are candidates. Left out: every campaign that is live.",
        ),
    ] = None
    num_campaigns: Annotated[int, Field(ge=1, le=100, description="How many campaigns to answer with, at most.")] = 10
    num_items: Annotated[int, Field(ge=0, le=50, description="How many items of each campaign to show, at most.")] = 5
    context: Annotated[
        dict[ContextKey, ContextValue],
        Field(max_length=32, description="Where and how the answer will be shown; kept in the decision record."),
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        return value


class DirectRequest(RecommendationRequest):
    """What TorchServe itself accepts at /predictions/campaign_ranker: no assignment, no decision record."""

    as_of: Annotated[str | None, Field(max_length=40, description="Moment of the decision, ISO 8601 with a zone.")] = (
        None
    )
    return_features: bool = False
    probe: Annotated[
        bool, Field(description="Score a user without any features, past the store: is a model there?")
    ] = False


class ExposureRequest(Strict):
    """This answer was shown."""

    request_id: Annotated[str, Field(min_length=1, max_length=100)]
    campaign_ids: Annotated[
        list[Identifier] | None,
        Field(min_length=1, max_length=100, description="Those of its campaigns that were shown. Left out: all."),
    ] = None


class Item(BaseModel):
    item_id: str
    name: str
    reason: str | None = None


class Campaign(BaseModel):
    campaign_id: str
    name: str
    kind: Annotated[str, Field(description="promotion, coupon, member_event or launch")]
    score: Annotated[float, Field(description="Probability that this user takes the campaign up.")]
    items: list[Item]
    reasons: Annotated[list[str], Field(description="Why, in plain words, the strongest first.")]


class Recommendations(BaseModel):
    """Ranked campaigns, and where the ranking came from."""

    request_id: Annotated[
        str | None,
        Field(
            description="Names the decision record; confirm with it at /v1/exposures. null: no record could be written."
        ),
    ]
    campaigns: list[Campaign]
    model_version: Annotated[str, Field(description="The registry's version; `popular` where no model ranked.")]
    variant: Literal["champion", "canary"]
    as_of: Annotated[str, Field(description="The moment of the decision, UTC.")]
    feature_age_s: Annotated[float | None, Field(description="Age of the user's features; null: none were used.")]
    cold_start: Annotated[bool, Field(description="The user is unknown: these are popular campaigns.")]
    degraded: Annotated[bool, Field(description="Something was late, away or old; `degraded_reasons` says what.")]
    degraded_reasons: list[str]
    dropped_campaign_ids: Annotated[list[str], Field(description="Candidates that are unknown or not live.")]


class Exposure(BaseModel):
    request_id: str
    recorded: Literal[True] = True


class Problem(BaseModel):
    field: Annotated[str, Field(description="The field, dotted; `body` where the body as a whole is wrong.")]
    problem: str


class Refusal(BaseModel):
    """Why a request was not answered."""

    error: Annotated[
        str, Field(description="invalid_request, unauthorized, unknown_request, too_large, unavailable, …")
    ]
    message: str
    fields: list[Problem] = []


class Health(BaseModel):
    status: str
    details: dict[str, Any] = {}


class Invalid(Exception):
    """A body that breaks the contract; `problems` names every field that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.problem}" for problem in problems))
        self.problems = problems


_Request = TypeVar("_Request", bound=Strict)
_KEY = re.compile(rb'"([^"\\]{1,64})"\s*:')
_PLACE = re.compile(r"at line (\d+) column (\d+)")
MAX_PROBLEMS = 10


def parse(model: type[_Request], content: bytes) -> _Request:
    """The request in a body.

    Raises:
        Invalid: with the fields that are wrong; nothing of a value is echoed.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    problems: dict[str, str] = {}
    for problem in found:
        if problem["type"] == "json_invalid":
            problems[_field_at(content, problem["msg"])] = problem["msg"]
        elif problem["loc"][:1] == ("context",) and len(problem["loc"]) > 2:
            problems.setdefault(_field(problem["loc"]), "should be a short text, a finite number, true or false")
        else:
            problems.setdefault(_field(problem["loc"]), problem["msg"])
    raise Invalid([Problem(field=field, problem=text) for field, text in [*problems.items()][:MAX_PROBLEMS]])


def _field(place: tuple[int | str, ...]) -> str:
    if not place:
        return "body"
    # Pydantic puts the branch of a union behind a value's place; what a client sent ends before it.
    depth = 2 if place[0] in ("context", "campaign_ids") else len(place)
    return ".".join(str(part)[:64] for part in place[:depth])


def _field_at(content: bytes, message: str) -> str:
    """The last key before the place where the body stops being JSON."""
    place = _PLACE.search(message)
    end = len(content)
    if place is not None:
        lines = content.split(b"\n")
        end = sum(len(line) + 1 for line in lines[: int(place[1]) - 1]) + int(place[2])
    keys = _KEY.findall(content, 0, end)
    return keys[-1].decode(errors="replace") if keys else "body"
