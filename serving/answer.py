"""Bodies of the endpoint's answers: recommendations, exposures, refusals and health."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from recommender.matching.candidates import Dropped
from serving.request import Problem

POPULAR = "popular"
"""The `model_version` of an answer that is the popular list and not a model's."""


Population = Literal["this_user", "known_users"]
"""Whose probability a score is: the user's own, by a model, or that of an average user known to the shop."""


class Item(TypedDict):
    """One item of a campaign."""

    item_id: str
    name: str
    reason: str | None


class Campaign(TypedDict):
    """One ranked campaign, with the items to show of it."""

    campaign_id: str
    name: str
    kind: Annotated[str, Field(description="promotion, coupon, member_event or launch")]
    score: Annotated[
        float, Field(description="Probability that a user takes the campaign up. `score_population` says which user.")
    ]
    base_rate: Annotated[
        float,
        Field(
            description="Rate at which users who were targeted with campaigns like this one took them up in the whole "
            "window: the same for every user."
        ),
    ]
    items: list[Item]
    reasons: Annotated[list[str], Field(description="Reasons in plain words, the strongest first.")]


Stage = Literal["shown", "ranked_below", Dropped]
"""Where a campaign ended: in the answer, among the candidates beyond `num_campaigns`, or out before the ranking."""


class Explanation(TypedDict):
    """Which place one campaign got for one user and why, or at which stage it dropped out."""

    campaign_id: str
    stage: Annotated[
        Stage,
        Field(
            description="`shown`; `ranked_below` num_campaigns; `unknown`, `not_started`, `ended`, `excluded` by the "
            "request, `taken_up` already, or `hidden` by the user."
        ),
    ]
    place: Annotated[int | None, Field(description="Place among the candidates, 1 is the first. null: no candidate.")]
    place_by_score: Annotated[
        int | None,
        Field(description="The place before re-ranking. It differs from `place` where re-ranking moved the campaign."),
    ]
    score: Annotated[float | None, Field(description="As in `campaigns`. null: no candidate.")]
    reasons: list[str]
    contributions: Annotated[
        dict[str, float] | None,
        Field(
            description="What each kind of fact, and `other` features, added to the log-odds of the score. null: the "
            "ranker does not say."
        ),
    ]


@dataclass(frozen=True)
class Ranking:
    """Ranked campaigns for one request, by a model or by popularity."""

    campaigns: list[Campaign]
    dropped_campaign_ids: list[str]
    """Campaigns that the request names and that are no candidates (`recommender.matching.candidates.Dropped`)."""
    exploration: dict[str, Any] | None = None
    """Propensities of the order (`Explored.record`), where chance took part in it."""
    explanations: list[Explanation] | None = None
    """Of all candidates, best first, and then of all that dropped out. None: the request does not ask for them."""

    @staticmethod
    def score_population(model_version: str) -> Population:
        """Whose probability the scores of a version are."""
        return "known_users" if model_version == POPULAR else "this_user"

    def add_explanations(self, document: dict[str, Any]) -> dict[str, Any]:
        """Put the explanations into an answer's document where the request asked for them."""
        if self.explanations is not None:
            document["explanations"] = self.explanations
        return document


class Recommendations(BaseModel):
    """Ranked campaigns, and where the ranking came from."""

    request_id: Annotated[
        str | None,
        Field(description="Id of the decision record, for /v1/exposures. null: no record could be written."),
    ]
    campaigns: list[Campaign]
    model_version: Annotated[str, Field(description="The version in the registry, or `popular` if no model ranked.")]
    score_population: Annotated[
        Population,
        Field(
            description="Whose probability the scores are: `this_user`'s, by the model, or in the popular list that of "
            "an average user known to the shop. Both count from now to the window's end, so they can be compared."
        ),
    ]
    variant: Literal["champion", "canary"]
    as_of: Annotated[str, Field(description="Time of the decision, UTC.")]
    feature_age_s: Annotated[float | None, Field(description="Age of the user's features. null: none were used.")]
    cold_start: Annotated[bool, Field(description="Whether the user is unknown, so that these are popular campaigns.")]
    degraded: Annotated[
        bool, Field(description="Whether something was late, unavailable or old. See `degraded_reasons`.")
    ]
    degraded_reasons: list[str]
    dropped_campaign_ids: Annotated[
        list[str],
        Field(
            description="Requested campaigns that are no candidates: unknown, not live, excluded by the request, or "
            "taken up or hidden by the user already."
        ),
    ]
    explanations: Annotated[
        list[Explanation], Field(description="Only where the request says `explain`: all candidates and all left out.")
    ] = []


class Exposure(BaseModel):
    """An exposure that was recorded."""

    request_id: str
    recorded: Literal[True] = True


class EventProblem(TypedDict):
    """Why one event of a request does not count, or not yet."""

    index: Annotated[int, Field(description="Its place among the events of the request, from 0.")]
    status: Annotated[
        Literal["rejected", "quarantined"],
        Field(description="`rejected`: it breaks the contract. `quarantined`: it is kept, and counts once it can."),
    ]
    field: str
    reason: str


class EventsTaken(BaseModel):
    """What became of the events of a request. All but the rejected ones are on disk, and cannot be lost."""

    accepted: Annotated[int, Field(description="Events that the user's next answer knows.")]
    duplicates: Annotated[int, Field(description="Events whose id came before. They change nothing.")]
    quarantined: int
    rejected: int
    problems: list[EventProblem]


class Refusal(BaseModel):
    """Why a request was not answered."""

    error: Annotated[
        str, Field(description="invalid_request, unauthorized, unknown_request, too_large, unavailable, …")
    ]
    message: str
    fields: list[Problem] = []


READY = "ready"
"""`Health.status` of what can answer. Anything else says why it cannot."""


class Health(BaseModel):
    """Whether a process is alive or ready."""

    status: str
    details: dict[str, Any] = {}
