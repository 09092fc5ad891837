"""Answers requests by one version: the gateway's body (`serving.wire`) or plain JSON. Every engine runs this.

A request that cannot be answered gets a status of its own and does not affect its neighbours in a batch.
"""

import gc
import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from recommender import logs
from recommender.errors import FeatureStoreError, RecommenderError, ServingError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.matching.rerank import Rerank
from recommender.models.campaign.ranker import Ranker
from recommender.registry import bundle
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import wire
from serving.answer import POPULAR, Ranking
from serving.clock import iso, to_us
from serving.online_store.client import EXPIRED, OnlineStoreClient
from serving.request import DirectRequest, InvalidRequest, Problem, ScoringRequest, parse
from serving.shop import Shop, ShopFollower
from serving.wire_key import wire_key
from serving.worker.probe import user_without_features
from serving.worker.scoring import features_document, score_batch
from serving.worker.warm_up import bodies

log = logs.get(__name__)
FOLLOW_S = 0.5
"""Seconds between looks at the catalogue's folder. A look is one `stat`. Chosen by hand."""
LATE = {"error": "late", "message": "the deadline passed before the worker came to the request"}
"""No engine knows the caller's deadline: TorchServe's `clientTimeoutInMills` only drops the answer, and its
`useJobTicket` refuses whatever finds no free worker. So the worker skips what is late."""
FORBIDDEN = {"error": "forbidden", "message": "the gateway's own format, without this replica's key: send JSON"}

NO_IDS: Mapping[str, str] = {}
"""Of a request that did not come through the gateway."""
NOT_RECORDED = {"decision_recorded": False}
"""Part of the answers to those who do not ask the gateway."""
MOST_TOGETHER = 32
"""Users in one call of the ranker: beyond that, a call costs nothing less for each, and memory grows. By hand."""

Answered = tuple[int, dict[str, Any]]
"""Status, as in HTTP, and JSON document."""
T = TypeVar("T")


class _Job(NamedTuple):
    """A request that needs only the ranker."""

    asked: ScoringRequest
    shopper: Shopper


class Answering:
    """One version: a bundle over the shop's present catalogue."""

    def __init__(self, settings: Settings, version: str, folder: Path) -> None:
        """Verify and load the bundle in `folder`.

        Raises:
            CorruptFileError: A file of the bundle is missing, truncated or altered; names it.
            BundleError: This version cannot load the bundle. States the reason.
            ServingError: It cannot answer a request of the warm-up; holds its answer.
        """
        self.settings, self.version = settings, version
        self.ranker: Ranker[Any] = bundle.load(folder)
        self.key = wire_key(settings)
        self.shops = ShopFollower(settings)
        self.online_store = OnlineStoreClient.open(settings)
        self.layouts: dict[bytes, tuple[str, ...]] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name="catalogue", daemon=True).start()
        num_warmed = self._warm_up()
        # What was loaded stays for good, so the collector need not walk over it in the middle of a request.
        gc.collect()
        gc.freeze()
        log.info("worker ready", ranker=self.ranker.name, model_version=version, warmed_with=num_warmed)

    def close(self) -> None:
        """Release the thread and the store's connections."""
        self._ended.set()
        self.online_store.close()

    def one(self, content: bytes) -> Answered:
        """The answer to one body: of the gateway, or of JSON."""
        return self.batch([content])[0]

    def batch(self, contents: Sequence[bytes]) -> list[Answered]:
        """The answers to bodies of one request each. Their users are scored together."""
        return self._answered([self._taken(content) for content in contents])

    def requested(self, requests: Sequence[DirectRequest]) -> list[Answered]:
        """The answers to requests that were parsed already."""
        return self._answered([self._of_request(request) for request in requests])

    def _taken(self, content: bytes) -> "_Job | Answered":
        if content[:1] == wire.MAGIC:
            return self._from_gateway(content)
        try:
            request = parse(DirectRequest, content)
        except InvalidRequest as error:
            return refused(error)
        return self._of_request(request)

    def _from_gateway(self, content: bytes) -> "_Job | Answered":
        try:
            asked, packed, key = wire.decode(content)
        except ValueError as error:
            return refused(invalid("body", str(error)))
        if not hmac.compare_digest(key, self.key):
            return 403, FORBIDDEN
        if asked.answer_by_us is not None and asked.answer_by_us < time.time_ns() // 1000:
            return 503, LATE
        return self._guarded(lambda: _Job(asked, self._unpacked(asked.request.user_id, packed)), asked.ids)

    def _of_request(self, request: DirectRequest) -> "_Job | Answered":
        return self._guarded(lambda: self._direct(request))

    def _answered(self, taken: "Sequence[_Job | Answered]") -> list[Answered]:
        jobs = [one for one in taken if isinstance(one, _Job)]
        parts = (jobs[start : start + MOST_TOGETHER] for start in range(0, len(jobs), MOST_TOGETHER))
        answers = iter([answer for part in parts for answer in self._together(part)])
        return [next(answers) if isinstance(one, _Job) else one for one in taken]

    def _together(self, jobs: "Sequence[_Job]") -> list[Answered]:
        """The answers of jobs that the ranker scores in one call, or each alone where one of them cannot be scored."""
        if len(jobs) > 1:
            try:
                return [(200, document) for document in self._ranked(jobs)]
            except Exception as error:  # whatever it is, each request alone tells whose it is
                log.info("requests are scored one by one", number=len(jobs), problem=type(error).__name__)
        return [self._guarded(partial(self._alone, job), job.asked.ids) for job in jobs]

    def _alone(self, job: _Job) -> Answered:
        return 200, self._ranked([job])[0]

    def _warm_up(self) -> int:
        """Answer requests of made-up users, and return how many. Without a catalogue there is nothing to answer."""
        shop, number = self.shops.current, self.settings.isolation.warm_up_requests
        if shop is None or number == 0:
            return 0
        names = ServingSchema.load(Home.of(self.settings).feature_store.root).layouts[0]
        as_of_us = self.shops.now_us()
        for body in bodies(self.settings, shop.catalogue, names, as_of_us=as_of_us, number=number, key=self.key):
            status, document = self.one(body)
            if status != 200:
                raise ServingError(f"{self.version} answers a request of its warm-up with {status}: {document}")
        return number

    def _guarded(self, answer: Callable[[], T], ids: Mapping[str, str] = NO_IDS) -> T | Answered:
        """What `answer` returns, or the answer that says why it could not."""
        try:
            return answer()
        except InvalidRequest as error:
            return refused(error)
        except RecommenderError as error:
            log.warning("request not answered", **ids, problem=f"{type(error).__name__}: {error}")
            return 503, {"error": "unavailable", "message": f"{type(error).__name__}: {error}"}
        except Exception as error:  # whatever it is, it must not fail the other requests of the batch
            log.exception("request failed", **ids)
            return 500, {"error": "internal", "message": type(error).__name__}

    def _direct(self, request: DirectRequest) -> "_Job | Answered":
        asked = ScoringRequest(
            request=request,
            as_of_us=self._moment(request.as_of),
            allow_repeats=self.settings.serving.allow_repeats,
            rerank=Rerank.of(self.settings.serving),
        )
        if request.probe:
            return _Job(asked, self._user_without_features(asked))
        try:
            packed = self.online_store.read(request.user_id)
            shopper = None if packed is None else self._unpacked(request.user_id, packed.content)
        except FeatureStoreError as error:
            log.warning("online store not read", problem=str(error))
            return 200, {**self._popular(asked, degraded_reasons=["feature_store"]), **NOT_RECORDED}
        if packed is None or shopper is None:
            return 200, {**self._popular(asked, cold_start=True), **NOT_RECORDED}
        if self.online_store.is_expired(packed, asked.as_of_us):
            return 200, {**self._popular(asked, cold_start=True, degraded_reasons=[EXPIRED]), **NOT_RECORDED}
        return _Job(asked, shopper)

    def _ranked(self, jobs: "Sequence[_Job]") -> list[dict[str, Any]]:
        documents = []
        scored = score_batch(self.ranker, self._shop(), [(job.shopper, job.asked) for job in jobs])
        for (asked, shopper), (ranking, examples) in zip(jobs, scored, strict=True):
            age_s = (asked.as_of_us - shopper.feature_time_us) / 1e6
            document = self._document(asked, ranking, feature_age_s=age_s)
            if isinstance(asked.request, DirectRequest):
                document.update(NOT_RECORDED)
                if asked.request.return_features and examples is not None:
                    document["features"] = features_document(examples)
            documents.append(document)
        return documents

    def _popular(
        self, asked: ScoringRequest, *, cold_start: bool = False, degraded_reasons: list[str] | None = None
    ) -> dict[str, Any]:
        found = self._shop().popular(asked)
        document = self._document(asked, found, cold_start=cold_start, degraded_reasons=degraded_reasons)
        return {**document, "model_version": POPULAR, "score_population": found.score_population(POPULAR)}

    def _document(
        self,
        asked: ScoringRequest,
        ranking: Ranking,
        *,
        feature_age_s: float | None = None,
        cold_start: bool = False,
        degraded_reasons: list[str] | None = None,
    ) -> dict[str, Any]:
        document = {
            "model_version": self.version,
            "score_population": ranking.score_population(self.version),
            "as_of": iso(asked.as_of_us),
            "cold_start": cold_start,
            "degraded": bool(degraded_reasons),
            "degraded_reasons": degraded_reasons or [],
            "feature_age_s": feature_age_s,
            "campaigns": ranking.campaigns,
            "dropped_campaign_ids": ranking.dropped_campaign_ids,
        }
        ranking.add_explanations(document)
        return document if ranking.exploration is None else {**document, "exploration": ranking.exploration}

    def _shop(self) -> Shop:
        shop = self.shops.current or self.shops.refresh()
        if shop is None:
            raise FeatureStoreError(f"no catalogue: {self.shops.problem}")
        return shop

    def _unpacked(self, user_id: str, content: bytes) -> Shopper:
        try:
            return unpack(user_id, content, self.layouts)
        except FeatureStoreError:
            # Perhaps a layout that a run has begun to write since the schema was read.
            self.layouts = ServingSchema.load(Home.of(self.settings).feature_store.root).by_layout()
            return unpack(user_id, content, self.layouts)

    def _user_without_features(self, asked: ScoringRequest) -> Shopper:
        """A user without features, in the layout that the store holds now."""
        names = ServingSchema.load(Home.of(self.settings).feature_store.root).layouts[0]
        return user_without_features(names, self._shop().catalogue.taxonomy_version, asked.as_of_us)

    def _moment(self, as_of: str | None) -> int:
        if as_of is None:
            return self.shops.now_us()
        try:
            moment = datetime.fromisoformat(as_of)
        except ValueError:
            raise invalid("as_of", "must be a time in ISO 8601") from None
        if moment.tzinfo is None:
            raise invalid("as_of", "must have a time zone, such as 2017-12-31T00:00:00-05:00")
        us = to_us(moment)
        try:
            iso(us)
        except (ValueError, OverflowError):
            raise invalid("as_of", "must lie in the years 1 to 9999, UTC") from None
        return us

    def _follow(self) -> None:
        while not self._ended.wait(FOLLOW_S):
            self.shops.refresh()


def refused(error: InvalidRequest) -> Answered:
    """The refusal of a request that names what is wrong with it."""
    fields = [problem.model_dump() for problem in error.problems]
    return 400, {"error": "invalid_request", "message": str(error), "fields": fields}


def invalid(field: str, problem: str) -> InvalidRequest:
    """The error of one wrong field."""
    return InvalidRequest([Problem(field=field, problem=problem)])
