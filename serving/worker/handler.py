"""The TorchServe handler: one user's campaigns a request, from the gateway's words and features or from plain JSON.

Duck-typed: TorchServe wants a module with one class that has `initialize` and `handle`; nothing here imports it. A request that
cannot be answered gets a status of its own and never touches its neighbours in the batch.
"""

import gc
import json
import logging
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from recommender.errors import FeatureStoreError, RecommenderError
from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user
from recommender.matching.examples import Shopper, pack_history
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.models.campaign.ranker import Ranker
from recommender.policies.exploration import Exploration
from recommender.registry import bundle
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import config, wire
from serving.api import DirectRequest, Invalid, Problem, parse
from serving.archive import BUNDLE
from serving.clock import iso, to_us
from serving.feature_client import FeatureClient
from serving.shop import Shop, ShopFollower
from serving.worker.scoring import Question, answer

logger = logging.getLogger(__name__)
FOLLOW_S = 0.5


class CampaignRankerHandler:
    """Serves one version: the bundle of its archive, over the shop's present catalogue."""

    def initialize(self, context: Any) -> None:
        """Load and verify the bundle; a damaged one keeps the worker from becoming READY.

        Raises:
            CorruptFileError, BundleError: naming what is wrong with the bundle.
        """
        folder = Path(context.system_properties["model_dir"]) / BUNDLE
        self.settings: Settings = config.of_environment()
        self.version = str(context.manifest["model"]["modelVersion"])
        self.ranker: Ranker = bundle.load(folder)
        self.shops = ShopFollower(self.settings)
        self.features = FeatureClient.open(self.settings)
        self.layouts: dict[bytes, tuple[str, ...]] = {}
        threading.Thread(target=self._follow, name="catalogue", daemon=True).start()
        # What was loaded stays for good: the collector need not walk over it in the middle of a request.
        gc.collect()
        gc.freeze()
        logger.info("%s serves %s", type(self.ranker).__name__, self.version)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one JSON document and one HTTP status an item."""
        answers = []
        for place, item in enumerate(data):
            status, document = self._one(item)
            context.set_response_status(code=status, idx=place)
            context.set_response_content_type(place, "application/json")
            answers.append(orjson.dumps(document))
        return answers

    def _one(self, item: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            body = item.get("body", item.get("data", b""))
            content = bytes(body) if isinstance(body, bytes | bytearray) else _encoded(body)
            if content[:1] == wire.MAGIC:
                question, packed = _decoded(content)
                return 200, self._answer(question, self._unpacked(question.user_id, packed))
            status, document = self._direct(parse(DirectRequest, content))
            return status, {**document, "decision_recorded": False}
        except Invalid as error:
            fields = [problem.model_dump() for problem in error.problems]
            return 400, {"error": "invalid_request", "message": str(error), "fields": fields}
        except RecommenderError as error:
            return 503, {"error": "unavailable", "message": f"{type(error).__name__}: {error}"}
        except Exception as error:  # whatever it is, it is this item's and not its neighbours'
            logger.exception("a request failed")
            return 500, {"error": "internal", "message": type(error).__name__}

    def _direct(self, request: DirectRequest) -> tuple[int, dict[str, Any]]:
        question = Question(
            user_id=request.user_id,
            as_of_us=self._moment(request.as_of),
            campaign_ids=request.campaign_ids,
            num_campaigns=request.num_campaigns,
            num_items=request.num_items,
            return_features=request.return_features,
        )
        if request.probe:
            return 200, self._answer(question, self._nobody(question))
        try:
            shopper = self.features.read(request.user_id)
        except FeatureStoreError as error:
            logger.warning("%s", error)
            return 200, self._popular(question, degraded_reasons=["feature_store"])
        if shopper is None:
            return 200, self._popular(question, cold_start=True)
        return 200, self._answer(question, shopper)

    def _answer(self, question: Question, shopper: Shopper) -> dict[str, Any]:
        found = answer(self.ranker, self._shop(), shopper, question)
        return self._signed(question, found, feature_age_s=(question.as_of_us - shopper.feature_time_us) / 1e6)

    def _popular(self, question: Question, **marks: Any) -> dict[str, Any]:
        campaigns, dropped = self._shop().popular(
            question.as_of_us, question.campaign_ids, question.num_campaigns, question.num_items
        )
        found = {"campaigns": campaigns, "dropped_campaign_ids": dropped, "model_version": "popular"}
        return self._signed(question, found, feature_age_s=None, **marks)

    def _signed(self, question: Question, found: dict[str, Any], **marks: Any) -> dict[str, Any]:
        reasons = marks.pop("degraded_reasons", [])
        return {
            "model_version": self.version,
            "as_of": iso(question.as_of_us),
            "cold_start": False,
            "degraded": bool(reasons),
            "degraded_reasons": reasons,
            **marks,
            **found,
        }

    def _shop(self) -> Shop:
        shop = self.shops.current or self.shops.refresh()
        if shop is None:
            raise FeatureStoreError(f"no catalogue: {self.shops.problem}")
        return shop

    def _unpacked(self, user_id: str, packed: bytes) -> Shopper:
        try:
            return unpack(user_id, packed, self.layouts)
        except FeatureStoreError:
            self.layouts = ServingSchema.load(Home.of(self.settings).feature_store.root).by_layout()
            return unpack(user_id, packed, self.layouts)

    def _nobody(self, question: Question) -> Shopper:
        """A user of whom nothing is known, in the layout that the store holds now."""
        names = ServingSchema.load(Home.of(self.settings).feature_store.root).layouts[0]
        return nobody(names, self._shop().catalogue.taxonomy_version, question.as_of_us)

    def _moment(self, as_of: str | None) -> int:
        if as_of is None:
            return self.shops.now_us()
        try:
            moment = datetime.fromisoformat(as_of)
        except ValueError:
            raise Invalid([Problem(field="as_of", problem="not a moment in ISO 8601")]) from None
        if moment.tzinfo is None:
            raise Invalid([Problem(field="as_of", problem="a moment needs a zone: 2017-12-31T00:00:00-05:00")])
        us = to_us(moment)
        try:
            iso(us)
        except (ValueError, OverflowError):
            raise Invalid([Problem(field="as_of", problem="not a moment of the years 1 to 9999, UTC")]) from None
        return us

    def _follow(self) -> None:
        pause = threading.Event()
        while not pause.wait(FOLLOW_S):
            self.shops.refresh()


def _decoded(content: bytes) -> tuple[Question, bytes]:
    """The question and the packed features of a body of the gateway."""
    try:
        words, packed = wire.decode(content)
        explores = words.pop("exploration", None)
        return Question(**words, exploration=None if explores is None else Exploration(**explores)), packed
    except (ValueError, TypeError) as error:
        raise Invalid([Problem(field="body", problem=str(error))]) from None


def _encoded(body: object) -> bytes:
    """The bytes of a body that someone decoded before us (TorchServe does, unless its configuration says no)."""
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise Invalid([Problem(field="body", problem=str(error))]) from None


def nobody(names: tuple[str, ...], taxonomy: str, moment_us: int) -> Shopper:
    """A user without a portrait, a purchase or a campaign: what a probe is scored with."""
    none, axes = np.zeros(0, dtype=np.int32), range(len(AXES))
    user = UserAffinity(
        months=0.0,
        values=tuple(none for _ in axes),
        counts=tuple(np.zeros((len(MEASURES), 0), dtype=np.uint16) for _ in axes),
        cents=tuple(none.astype(np.uint32) for _ in axes),
        types=none.astype(np.uint32),
        targeted=none.astype(np.uint16),
        redeemed=none.astype(np.uint16),
    )
    return Shopper(
        user_id="",
        portrait_P=np.full(len(names), np.nan, dtype=np.float32),
        portrait_names=names,
        affinity=pack_user(user, taxonomy),
        history=pack_history(none.astype(np.int64), none.astype(np.float32), none, none, taxonomy),
        feature_time_us=moment_us,
    )
