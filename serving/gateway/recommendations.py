"""Answers one request: assign a variant, read the features, ask the model, fall back if needed, record.

A failure behind the gateway is never an error for the shopper: when the store or the model is unavailable or late, the
answer is the popular list, marked as `degraded`.
"""

import time
from dataclasses import dataclass

import orjson

from recommender import logs
from recommender.datasets.time_units import SECOND_US
from recommender.decisions.assignment import assign
from recommender.decisions.log import DecisionLog, LogFull, new_token
from recommender.errors import FeatureStoreError
from recommender.events.tail import lines_of, out
from recommender.matching.affinity import unpack_user
from recommender.matching.candidates import NOTHING
from recommender.matching.packed_user import Newcomer, PackedUser
from recommender.matching.rerank import Rerank
from recommender.policies.exploration import Exploration
from recommender.settings import Settings
from recommender.storage.forgotten import ANONYMOUS, ForgottenFollower
from serving.answer import Ranking
from serving.deployed import Follower
from serving.gateway import trace, tracing
from serving.gateway.arrival import Arrival
from serving.gateway.decision import Answer, Assigned
from serving.gateway.folding import Folding
from serving.gateway.isolation import Isolation
from serving.gateway.metrics import Metrics
from serving.gateway.model import ModelAway
from serving.online_store.client import EXPIRED, OnlineStoreClient
from serving.request import RecommendationRequest, ScoringRequest
from serving.shop import Shop, ShopFollower

FORGOTTEN_LIST = "forgotten_list"
"""Why an answer is degraded while it is not known who was forgotten: everybody is treated as if they were."""
AGED_US = 3_600 * SECOND_US
"""A row that is so old is brought to the moment of the request also where no event came. By hand: `refresh` runs every
hour, and a row of the last hour costs nothing."""


class Unavailable(Exception):
    """No popular list was loaded yet, so there is no answer."""


@dataclass(frozen=True, kw_only=True)
class Recommender:
    """Answers requests, with everything that an answer needs, one for each gateway process."""

    settings: Settings
    shops: ShopFollower
    deployed: Follower
    online_store: OnlineStoreClient
    versions: Isolation
    decisions: DecisionLog
    metrics: Metrics
    folding: Folding
    forgotten: ForgottenFollower

    async def recommend(self, request: RecommendationRequest, arrival: Arrival) -> bytes:
        """The answer as JSON, once its decision record is written or late.

        Raises:
            Unavailable: There is no popular list yet.
        """
        shop = self.shops.current
        if shop is None:
            raise Unavailable
        forgotten = self.forgotten.current
        if forgotten is None or request.user_id in forgotten:
            # A user whom no store knows gets the popular list. The context may say who it is.
            request = request.model_copy(update={"user_id": ANONYMOUS, "context": {}})
        assigned = self._assign(request, arrival)
        if forgotten is None:
            answer = Answer(ranking=_popular(shop, assigned.asked), degraded_reasons=[FORGOTTEN_LIST])
        else:
            assigned, answer = await self._answer(assigned, shop)
        request_id, answer = await self._record(assigned, answer)
        logs.bind(request_id=request_id)
        content = orjson.dumps(answer.document(assigned, request_id))
        self._observe(assigned, answer)
        return content

    def _assign(self, request: RecommendationRequest, arrival: Arrival) -> Assigned:
        deployed, token = self.deployed.current, new_token()
        share = deployed.canary_share if deployed.canary else 0.0
        assignment = assign(request.user_id, salt=self.settings.serving.assignment_salt, canary_share=share)
        version = deployed.canary if assignment.variant == "canary" else deployed.champion
        exploration = self._exploration(token)
        asked = ScoringRequest(
            request=request,
            as_of_us=self.shops.now_us(),
            exploration=exploration,
            allow_repeats=self.settings.serving.allow_repeats,
            answer_by_us=time.time_ns() // 1000 + round(arrival.left_s() * 1e6),
            rerank=Rerank.of(self.settings.serving),
            **trace.recorded(),
        )
        return Assigned(asked=asked, assignment=assignment, version=version, token=token, arrival=arrival)

    def _exploration(self, token: str) -> Exploration | None:
        serving = self.settings.serving
        if serving.exploration == "none":
            return None
        return Exploration(
            kind=serving.exploration, rate=serving.exploration_rate, spread=serving.exploration_spread, seed=token
        )

    async def _answer(self, assigned: Assigned, shop: Shop) -> tuple[Assigned, Answer]:
        """The answer, and what it was assigned to: another variant where the champion answers for a canary."""
        asked, left_s = assigned.asked, assigned.arrival.left_s()
        if left_s <= 0:
            return assigned, Answer(ranking=_popular(shop, asked), degraded_reasons=["model_late"])
        try:
            packed = await self._read(asked.request.user_id, min(left_s, self.settings.serving.store_deadline_ms / 1e3))
        except FeatureStoreError as error:
            logs.bind(problem=str(error))
            return assigned, Answer(ranking=_popular(shop, asked), degraded_reasons=["feature_store"])
        if not isinstance(packed, PackedUser):
            return assigned, Answer(ranking=_popular(shop, asked, packed), cold_start=True)
        if self.online_store.is_expired(packed, asked.as_of_us):
            return assigned, Answer(ranking=_popular(shop, asked, packed), cold_start=True, degraded_reasons=[EXPIRED])
        reasons = []
        if packed.tail or asked.as_of_us - packed.feature_time_us >= AGED_US:
            try:
                with self.metrics.event_fold.time():
                    packed = self.folding.folded(asked.request.user_id, packed, shop, asked.as_of_us)
            except FeatureStoreError as error:
                logs.bind(problem=str(error))
                reasons.append("events")
        try:
            ranked = await self.versions.rank(assigned, packed.content)
        except ModelAway as error:
            logs.bind(problem=error.problem or error.reason)
            return assigned, Answer(ranking=_popular(shop, asked, packed), degraded_reasons=[error.reason, *reasons])
        age_s = (asked.as_of_us - packed.feature_time_us) / 1e6
        reasons = [*ranked.reasons, *reasons]
        if age_s > self.settings.serving.max_feature_age_s:
            reasons.append("features_old")
        return ranked.assigned, Answer(
            ranking=ranked.ranking, model_version=ranked.model_version, feature_age_s=age_s, degraded_reasons=reasons
        )

    async def _read(self, user_id: str, timeout_s: float) -> PackedUser | Newcomer | None:
        began_s = time.perf_counter()
        try:
            with tracing.span("store"):
                return await self.online_store.read_async(user_id, timeout_s)
        finally:
            self.metrics.store_seconds.observe(time.perf_counter() - began_s)

    async def _record(self, assigned: Assigned, answer: Answer) -> tuple[str | None, Answer]:
        """Let the decision be recorded, and return its request id and the answer as it can be given now."""
        try:
            record = {**answer.record(assigned), **assigned.asked.ids}
            entry = self.decisions.submit(record, token=assigned.token)
        except LogFull as error:
            # The shopper still gets an answer. Without a record there is no request id, and nothing can be confirmed.
            logs.bind(problem=f"no decision record: {error}")
            return None, answer.late()
        delivered = False
        try:
            written = await self.decisions.written(entry)
            delivered = not assigned.arrival.caller_left()
        finally:
            # The caller hung up, meanwhile (the wait was cancelled) or just now.
            if not delivered:
                self._mark_undelivered(str(entry.request_id))
        return entry.request_id, answer if written else answer.late()

    def _mark_undelivered(self, request_id: str) -> None:
        try:
            self.decisions.mark_undelivered(request_id)
        except LogFull as error:
            logs.bind(problem=f"not marked as undelivered: {error}")

    def _observe(self, assigned: Assigned, answer: Answer) -> None:
        variant = assigned.assignment.variant
        self.metrics.answers.labels(variant, answer.model_version).inc()
        self.metrics.seconds.labels(variant).observe(assigned.arrival.waited_s())
        for reason in answer.degraded_reasons:
            self.metrics.degraded.labels(reason).inc()
        if not answer.ranking.campaigns:
            self.metrics.empty_answers.labels(self._why_empty(assigned)).inc()
        if answer.cold_start:
            self.metrics.cold_starts.inc()
        if answer.feature_age_s is not None:
            self.metrics.feature_age.set(answer.feature_age_s)
        logs.bind(variant=variant, model_version=answer.model_version, cold_start=answer.cold_start)
        if answer.degraded_reasons:
            logs.bind(degraded_reasons=answer.degraded_reasons)

    def _why_empty(self, assigned: Assigned) -> str:
        shop = self.shops.current
        live = shop is not None and len(shop.catalogue.live(assigned.asked.as_of_us))
        return "no_candidate" if live else "no_live_campaign"


def _popular(shop: Shop, asked: ScoringRequest, packed: PackedUser | Newcomer | None = None) -> Ranking:
    """The popular list, without what the user has taken up or hidden, as far as it was read."""
    with tracing.span("rules"):
        if packed is None:
            return shop.popular(asked)
        user, gone = None, NOTHING
        try:
            gone = out([event for _, event in lines_of(packed.tail) if event.time_us <= asked.as_of_us])
            if isinstance(packed, PackedUser):
                user = unpack_user(packed.affinity, shop.catalogue.numbering)
        except FeatureStoreError as error:
            logs.bind(problem=str(error))
        return shop.popular(asked, user, gone)
