"""Answers of the API. Fields that a newer server adds are ignored."""

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Item(_Answer):
    """One item of a campaign."""

    item_id: str
    name: str
    reason: str | None


class Campaign(_Answer):
    """One ranked campaign, with the items to show of it."""

    campaign_id: str
    name: str
    kind: str
    """promotion, coupon, member_event or launch."""
    score: float
    """Probability that a user takes the campaign up. `Recommendations.score_population` says which user."""
    base_rate: float
    """Rate at which targeted users took up campaigns like this one."""
    items: list[Item]
    reasons: list[str]
    """In plain words, the strongest first."""


class Explanation(_Answer):
    """Which place one campaign got for one user and why, or at which stage it dropped out."""

    campaign_id: str
    stage: str
    place: int | None = None
    place_by_score: int | None = None
    score: float | None = None
    reasons: list[str] = []
    contributions: dict[str, float] | None = None


class Recommendations(_Answer):
    """Ranked campaigns, and where the ranking came from."""

    request_id: str | None
    """Of the decision record, for `expose`. None: no record could be written."""
    campaigns: list[Campaign]
    model_version: str
    score_population: str
    variant: str
    as_of: str
    """Time of the decision, ISO 8601, UTC."""
    feature_age_s: float | None
    cold_start: bool
    degraded: bool
    degraded_reasons: list[str]
    dropped_campaign_ids: list[str]
    explanations: list[Explanation] = []


class EventProblem(_Answer):
    """Why one event of a call does not count, or not yet."""

    index: int
    """Its place among the events of the call, from 0."""
    status: str
    """`rejected`: it breaks the contract. `quarantined`: it is kept, and counts once user, item and campaign are
    known."""
    field: str
    reason: str


class EventsTaken(_Answer):
    """What became of the events of a call. All but the rejected ones are on disk."""

    accepted: int
    duplicates: int
    """Events whose id came before. They change nothing."""
    quarantined: int
    rejected: int
    problems: list[EventProblem] = []


class Problem(_Answer):
    """One field of a request that is wrong."""

    field: str
    problem: str


class Refusal(_Answer):
    """Why a request was not answered."""

    error: str
    message: str
    fields: list[Problem] = []
