"""TorchServe handler: one user's campaigns per request, from the gateway's body (`serving.wire`) or from plain JSON.

TorchServe wants a module with one class that has `initialize` and `handle`; nothing here imports TorchServe. A request
that cannot be answered gets a separate status and does not affect the other requests of its batch.
"""

import gc
import json
import logging
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from recommender import logs
from recommender.errors import FeatureStoreError, RecommenderError, ServingError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.matching.rerank import Rerank
from recommender.models.campaign.ranker import Ranker
from recommender.registry import bundle
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import config, wire
from serving.answer import POPULAR, Ranking
from serving.archive import BUNDLE
from serving.clock import iso, to_us
from serving.online_store.client import OnlineStoreClient
from serving.request import DirectRequest, InvalidRequest, Problem, ScoringRequest, parse
from serving.shop import Shop, ShopFollower
from serving.worker.probe import user_without_features
from serving.worker.scoring import features_document, score
from serving.worker.warm_up import bodies

log = logs.get(__name__)
FOLLOW_S = 0.5
"""Seconds between looks at the catalogue's folder. A look is one `stat`. Chosen by hand."""
LATE = {"error": "late", "message": "the deadline passed before the worker came to the request"}
"""TorchServe itself computes whatever waits, also when its caller has left: `clientTimeoutInMills` only drops the
answer, and `useJobTicket` refuses whatever finds no free worker. So the worker skips what is late."""
METRICS_MARK = "[METRICS]"
"""TorchServe parses the lines of its workers that begin with this, so they are not written as JSON."""


class CampaignRankerHandler:
    """Serves one version: the bundle of its archive, over the shop's present catalogue."""

    def initialize(self, context: Any) -> None:
        """Verify and load the bundle, where an error keeps the worker from becoming READY.

        Raises:
            CorruptFileError: A file of the bundle is missing, truncated or altered; names it.
            BundleError: This version cannot load the bundle. States the reason.
        ServingError: It cannot answer a request of the warm-up; holds its answer.
        """
        # TorchServe writes what a worker prints to its log file.
        logs.configure(process="worker", stream=sys.stdout, verbatim=METRICS_MARK)
        logging.getLogger("ts").setLevel(logging.INFO)  # the level at which it writes its metrics
        folder = Path(context.system_properties["model_dir"]) / BUNDLE
        self.settings: Settings = config.of_environment()
        self.version = str(context.manifest["model"]["modelVersion"])
        self.ranker: Ranker[Any] = bundle.load(folder)
        self.shops = ShopFollower(self.settings)
        self.online_store = OnlineStoreClient.open(self.settings)
        self.layouts: dict[bytes, tuple[str, ...]] = {}
        threading.Thread(target=self._follow, name="catalogue", daemon=True).start()
        num_warmed = self._warm_up()
        # What was loaded stays for good, so the collector need not walk over it in the middle of a request.
        gc.collect()
        gc.freeze()
        log.info("worker ready", ranker=self.ranker.name, model_version=self.version, warmed_with=num_warmed)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one JSON document and one HTTP status per item."""
        answers = []
        for place, item in enumerate(data):
            status, document = self._one(item)
            context.set_response_status(code=status, idx=place)
            context.set_response_content_type(place, "application/json")
            answers.append(orjson.dumps(document))
        return answers

    def _warm_up(self) -> int:
        """Answer requests of made-up users, and return how many. Without a catalogue there is nothing to answer."""
        shop, number = self.shops.current, self.settings.isolation.warm_up_requests
        if shop is None or number == 0:
            return 0
        names = ServingSchema.load(Home.of(self.settings).feature_store.root).layouts[0]
        as_of_us = self.shops.now_us()
        for body in bodies(self.settings, shop.catalogue, names, as_of_us=as_of_us, number=number):
            status, document = self._one({"body": body})
            if status != 200:
                raise ServingError(f"{self.version} answers a request of its warm-up with {status}: {document}")
        return number

    def _one(self, item: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            body = item.get("body", item.get("data", b""))
            content = bytes(body) if isinstance(body, bytes | bytearray) else _encoded(body)
            if content[:1] == wire.MAGIC:
                asked, packed = _decoded(content)
                if asked.answer_by_us is not None and asked.answer_by_us < time.time_ns() // 1000:
                    return 503, LATE
                return 200, self._ranked(asked, self._unpacked(asked.request.user_id, packed))
            return 200, {**self._direct(parse(DirectRequest, content)), "decision_recorded": False}
        except InvalidRequest as error:
            fields = [problem.model_dump() for problem in error.problems]
            return 400, {"error": "invalid_request", "message": str(error), "fields": fields}
        except RecommenderError as error:
            log.warning("request not answered", problem=f"{type(error).__name__}: {error}")
            return 503, {"error": "unavailable", "message": f"{type(error).__name__}: {error}"}
        except Exception as error:  # whatever it is, it must not fail the other requests of the batch
            log.exception("request failed")
            return 500, {"error": "internal", "message": type(error).__name__}

    def _direct(self, request: DirectRequest) -> dict[str, Any]:
        asked = ScoringRequest(
            request=request,
            as_of_us=self._moment(request.as_of),
            allow_repeats=self.settings.serving.allow_repeats,
            rerank=Rerank.of(self.settings.serving),
        )
        if request.probe:
            return self._ranked(asked, self._user_without_features(asked), return_features=request.return_features)
        try:
            packed = self.online_store.read(request.user_id)
            shopper = None if packed is None else self._unpacked(request.user_id, packed.content)
        except FeatureStoreError as error:
            log.warning("online store not read", problem=str(error))
            return self._popular(asked, degraded_reasons=["feature_store"])
        if shopper is None:
            return self._popular(asked, cold_start=True)
        return self._ranked(asked, shopper, return_features=request.return_features)

    def _ranked(self, asked: ScoringRequest, shopper: Shopper, *, return_features: bool = False) -> dict[str, Any]:
        scored = score(self.ranker, self._shop(), shopper, asked)
        age_s = (asked.as_of_us - shopper.feature_time_us) / 1e6
        document = self._document(asked, scored.ranking, feature_age_s=age_s)
        if return_features and scored.examples is not None:
            document["features"] = features_document(scored.examples)
        return document

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
            raise _invalid("as_of", "must be a time in ISO 8601") from None
        if moment.tzinfo is None:
            raise _invalid("as_of", "must have a time zone, such as 2017-12-31T00:00:00-05:00")
        us = to_us(moment)
        try:
            iso(us)
        except (ValueError, OverflowError):
            raise _invalid("as_of", "must lie in the years 1 to 9999, UTC") from None
        return us

    def _follow(self) -> None:
        pause = threading.Event()
        while not pause.wait(FOLLOW_S):
            self.shops.refresh()


def _decoded(content: bytes) -> tuple[ScoringRequest, bytes]:
    """The request and the packed features of a body of the gateway."""
    try:
        return wire.decode(content)
    except ValueError as error:
        raise _invalid("body", str(error)) from None


def _encoded(body: object) -> bytes:
    """The bytes of a body that was decoded before us (TorchServe does that unless its configuration forbids it)."""
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise _invalid("body", str(error)) from None


def _invalid(field: str, problem: str) -> InvalidRequest:
    return InvalidRequest([Problem(field=field, problem=problem)])
