"""One request's way through the gateway: assign, read the features, ask the model, fall back, record.

It is never an error that a shopper sees: a store or a model that is away or late gives the popular list, and the answer says so.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from recommender.decisions.assignment import Assignment, assign
from recommender.decisions.log import DecisionLog, new_token
from recommender.errors import FeatureStoreError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import pack
from recommender.policies.exploration import Exploration
from recommender.settings import Settings
from serving import wire
from serving.api import RecommendationRequest
from serving.archive import MODEL_NAME
from serving.clock import iso
from serving.deployed import Follower
from serving.feature_client import FeatureClient
from serving.gateway.inference import InferenceClient, InferenceError
from serving.gateway.observed import Observed
from serving.shop import Shop, ShopFollower

POPULAR = "popular"


class Unavailable(Exception):
    """No popular list was ever loaded: there is nothing to answer with."""


class ModelAway(Exception):
    """The model did not answer, or not with an answer. `reason` goes into the metrics and the answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Answer:
    """An answer as it is being made."""

    campaigns: list[dict[str, Any]]
    dropped: list[str]
    model_version: str = POPULAR
    feature_age_s: float | None = None
    cold_start: bool = False
    degraded_reasons: list[str] = field(default_factory=list)
    explored: dict[str, Any] | None = None
    """The propensities of the order, where chance took part in it."""


@dataclass(frozen=True, kw_only=True)
class Recommending:
    """Everything that a request needs; one for each gateway process."""

    settings: Settings
    shops: ShopFollower
    deployed: Follower
    features: FeatureClient
    inference: InferenceClient
    decisions: DecisionLog
    observed: Observed

    async def recommend(self, request: RecommendationRequest) -> bytes:
        """The answer as JSON, after its decision record was written.

        Raises:
            Unavailable: there is no popular list yet.
        """
        began = time.perf_counter()
        shop = self.shops.current
        if shop is None:
            raise Unavailable
        deployed, as_of_us = self.deployed.current, self.shops.now_us()
        share = deployed.canary_share if deployed.canary else 0.0
        assignment = assign(request.user_id, salt=self.settings.serving.assignment_salt, canary_share=share)
        version = deployed.canary if assignment.variant == "canary" else deployed.champion
        token = new_token()
        answer = await self._answer(request, shop, assignment, version, as_of_us, began, token)
        content = self._record(request, answer, assignment, version, as_of_us, token)
        self._observe(answer, assignment, time.perf_counter() - began)
        return content

    async def _answer(
        self,
        request: RecommendationRequest,
        shop: Shop,
        assignment: Assignment,
        version: str | None,
        as_of_us: int,
        began: float,
        token: str,
    ) -> Answer:
        try:
            shopper = await self._read(request.user_id)
        except FeatureStoreError:
            return self._popular(request, shop, as_of_us, token, degraded_reasons=["feature_store"])
        if shopper is None:
            return self._popular(request, shop, as_of_us, token, cold_start=True)
        try:
            found = await self._ask(request, shopper, assignment, version, as_of_us, began, token)
        except ModelAway as error:
            return self._popular(request, shop, as_of_us, token, degraded_reasons=[error.reason])
        age_s = (as_of_us - shopper.feature_time_us) / 1e6
        old = age_s > self.settings.serving.max_feature_age_s
        return Answer(
            found["campaigns"],
            found["dropped_campaign_ids"],
            found["model_version"],
            age_s,
            False,
            ["features_old"] * old,
            found.get("exploration"),
        )

    async def _read(self, user_id: str) -> Shopper | None:
        began = time.perf_counter()
        try:
            return await self.features.read_async(user_id)
        finally:
            self.observed.store_seconds.observe(time.perf_counter() - began)

    async def _ask(
        self,
        request: RecommendationRequest,
        shopper: Shopper,
        assignment: Assignment,
        version: str | None,
        as_of_us: int,
        began: float,
        token: str,
    ) -> dict[str, Any]:
        if version is None:
            raise ModelAway("no_model")
        words = {
            "user_id": request.user_id,
            "as_of_us": as_of_us,
            "campaign_ids": request.campaign_ids,
            "num_campaigns": request.num_campaigns,
            "num_items": request.num_items,
        }
        if (explores := self._exploration()) is not None:
            words["exploration"] = {**explores, "seed": token}
        asked = time.perf_counter()
        left_s = self.settings.serving.deadline_ms / 1e3 - (asked - began)
        try:
            async with asyncio.timeout(max(left_s, 0.001)):
                status, body = await self._post(version, assignment, wire.encode(words, pack(shopper)))
        except TimeoutError:
            raise ModelAway("model_late") from None
        except InferenceError:
            raise ModelAway("model_away") from None
        finally:
            self.observed.model_seconds.labels(assignment.variant).observe(time.perf_counter() - asked)
        if status != 200:
            raise ModelAway("model_error")
        try:
            found: dict[str, Any] = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ModelAway("model_error") from None
        return found

    async def _post(self, version: str, assignment: Assignment, body: bytes) -> tuple[int, bytes]:
        path = f"/predictions/{MODEL_NAME}/{version}"
        status, answer = await self.inference.post(path, body, content_type=wire.CONTENT_TYPE)
        if status == 404:
            # The version was let go between the look at what is deployed and the request: look again, once.
            deployed = self.deployed.refresh()
            again = deployed.canary if assignment.variant == "canary" else deployed.champion
            again = again or deployed.champion
            if again is not None and again != version:
                path = f"/predictions/{MODEL_NAME}/{again}"
                status, answer = await self.inference.post(path, body, content_type=wire.CONTENT_TYPE)
        return status, answer

    def _exploration(self) -> dict[str, Any] | None:
        serving = self.settings.serving
        if serving.exploration == "none":
            return None
        return {
            "kind": serving.exploration,
            "rate": serving.exploration_rate,
            "spread": serving.exploration_spread,
        }

    def _popular(self, request: RecommendationRequest, shop: Shop, as_of_us: int, token: str, **marks: Any) -> Answer:
        asked = (as_of_us, request.campaign_ids, request.num_campaigns, request.num_items)
        if (explores := self._exploration()) is None:
            return Answer(*shop.popular(*asked), **marks)
        exploration = Exploration(**explores, seed=token)
        campaigns, dropped, explored = shop.explored(*asked, user_id=request.user_id, exploration=exploration)
        return Answer(campaigns, dropped, explored=explored, **marks)

    def _record(
        self,
        request: RecommendationRequest,
        answer: Answer,
        assignment: Assignment,
        version: str | None,
        as_of_us: int,
        token: str,
    ) -> bytes:
        known = {
            "model_version": answer.model_version,
            "variant": assignment.variant,
            "as_of": iso(as_of_us),
            "feature_age_s": answer.feature_age_s,
            "cold_start": answer.cold_start,
        }
        record = {
            **known,
            "user_id": request.user_id,
            "campaigns": [{"campaign_id": c["campaign_id"], "score": c["score"]} for c in answer.campaigns],
            "propensity": assignment.propensity,
            "assigned_version": version,
            "degraded_reasons": answer.degraded_reasons,
            "candidates": request.campaign_ids,
            "context": request.context,
        }
        if (explores := self._exploration()) is not None:
            record["exploration"] = {**explores, **(answer.explored or {"num_candidates": 0})}
        request_id: str | None = None
        try:
            request_id = self.decisions.record(record, token=token)
        except OSError:
            # The shopper still gets an answer; without a record there is no request id, and nothing can be confirmed.
            answer.degraded_reasons.append("decision_log")
        return orjson.dumps(
            {
                "request_id": request_id,
                "campaigns": answer.campaigns,
                **known,
                "degraded": bool(answer.degraded_reasons),
                "degraded_reasons": answer.degraded_reasons,
                "dropped_campaign_ids": answer.dropped,
            }
        )

    def _observe(self, answer: Answer, assignment: Assignment, seconds: float) -> None:
        self.observed.answers.labels(assignment.variant, answer.model_version).inc()
        self.observed.seconds.labels(assignment.variant).observe(seconds)
        for reason in answer.degraded_reasons:
            self.observed.degraded.labels(reason).inc()
        if answer.cold_start:
            self.observed.cold_starts.inc()
        if answer.feature_age_s is not None:
            self.observed.feature_age.set(answer.feature_age_s)
