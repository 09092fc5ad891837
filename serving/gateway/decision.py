"""The gateway's decisions about a request before store and model are asked, and the answer to it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from recommender.decisions.assignment import Assignment
from serving.answer import POPULAR, Ranking
from serving.clock import iso
from serving.gateway.arrival import Arrival
from serving.request import ScoringRequest


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A request with the time, the variant and the version that the gateway chose for it."""

    asked: ScoringRequest
    assignment: Assignment
    version: str | None
    """The deployed version of the user's variant, which another one may answer for. None: none is deployed."""
    token: str
    """End of the request id. It is drawn first, because it seeds the exploration."""
    arrival: Arrival

    @cached_property
    def as_of(self) -> str:
        """The moment of the decision, ISO 8601 in UTC."""
        return iso(self.asked.as_of_us)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to an assigned request."""

    ranking: Ranking
    model_version: str = POPULAR
    feature_age_s: float | None = None
    cold_start: bool = False
    degraded_reasons: list[str] = field(default_factory=list)

    def late(self) -> "Answer":
        """The same, where the record is not written yet."""
        return replace(self, degraded_reasons=[*self.degraded_reasons, "decision_log"])

    def record(self, assigned: Assigned) -> dict[str, Any]:
        """The decision record, without the request id and the time that the log adds."""
        record = {
            **self._known(assigned),
            **assigned.asked.request.recorded(),
            "campaigns": [{"campaign_id": c["campaign_id"], "score": c["score"]} for c in self.ranking.campaigns],
            "propensity": assigned.assignment.propensity,
            "assigned_version": assigned.version,
            "degraded_reasons": self.degraded_reasons,
        }
        if (explores := assigned.asked.exploration) is not None:
            propensities = self.ranking.exploration or {"num_candidates": 0}
            described = {"kind": explores.kind, "rate": explores.rate, "spread": explores.spread}
            record["exploration"] = {**described, **propensities}
        if assigned.asked.rerank.is_on:
            record["rerank"] = {"kind": assigned.asked.rerank.kind, "trade_off": assigned.asked.rerank.trade_off}
        return record

    def document(self, assigned: Assigned, request_id: str | None) -> dict[str, Any]:
        """The answer as the caller gets it (`serving.answer.Recommendations`), not validated again to save time."""
        document = {
            "request_id": request_id,
            "campaigns": self.ranking.campaigns,
            **self._known(assigned),
            "score_population": self.ranking.score_population(self.model_version),
            "degraded": bool(self.degraded_reasons),
            "degraded_reasons": self.degraded_reasons,
            "dropped_campaign_ids": self.ranking.dropped_campaign_ids,
        }
        return self.ranking.add_explanations(document)

    def _known(self, assigned: Assigned) -> dict[str, Any]:
        return {
            "model_version": self.model_version,
            "variant": assigned.assignment.variant,
            "as_of": assigned.as_of,
            "feature_age_s": self.feature_age_s,
            "cold_start": self.cold_start,
        }
