"""Asks TorchServe for the assigned version's ranking, within what is left of the request's deadline."""

import asyncio
import time
from dataclasses import dataclass

import orjson

from recommender.errors import LONGEST_ANSWER
from recommender.settings import Settings
from serving import wire
from serving.answer import Ranking
from serving.archive import MODEL_NAME
from serving.deployed import Follower
from serving.gateway.decision import Assigned
from serving.gateway.inference import InferenceClient, InferenceError
from serving.gateway.metrics import Metrics

LEAST_S = 0.001
"""A request that comes late to the model still gets this long, so that it fails as late and not as impossible."""


class ModelAway(Exception):
    """The model gave no answer in time.

    `reason` goes into the answer, the decision record and the metrics, `problem` into the log.
    """

    def __init__(self, reason: str, problem: str = "") -> None:
        super().__init__(reason, problem)
        self.reason, self.problem = reason, problem


@dataclass(frozen=True, kw_only=True)
class Model:
    """The deployed versions behind TorchServe's inference API."""

    settings: Settings
    deployed: Follower
    inference: InferenceClient
    metrics: Metrics

    async def rank(self, assigned: Assigned, features: bytes) -> tuple[Ranking, str]:
        """The ranking of one user, whose packed features are sent as they are, and the version that made it.

        Raises:
            ModelAway: No version is deployed, the deadline passed, there is no connection, or the answer is an error.
        """
        if assigned.version is None:
            raise ModelAway("no_model")
        asked_s = time.perf_counter()
        left_s = self.settings.serving.deadline_ms / 1e3 - (asked_s - assigned.began_s)
        try:
            async with asyncio.timeout(max(left_s, LEAST_S)):
                status, body = await self._post(assigned, assigned.version, wire.encode(assigned.asked, features))
        except TimeoutError:
            raise ModelAway("model_late") from None
        except InferenceError as error:
            raise ModelAway("model_away", str(error)) from None
        finally:
            self.metrics.model_seconds.labels(assigned.assignment.variant).observe(time.perf_counter() - asked_s)
        if status != 200:
            raise ModelAway("model_error", f"{status}: {body[:LONGEST_ANSWER].decode(errors='replace')}")
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ModelAway("model_error", "the answer is not JSON") from None
        ranking = Ranking(
            found["campaigns"], found["dropped_campaign_ids"], found.get("exploration"), found.get("explanations")
        )
        return ranking, str(found["model_version"])

    async def probe(self, version: str, body: bytes) -> int:
        """The status with which a version answers `body`, for as long as the caller lets it take.

        Raises:
            InferenceError: There is no connection, or it broke.
        """
        status, _ = await self.inference.post(_path(version), body)
        return status

    async def _post(self, assigned: Assigned, version: str, body: bytes) -> tuple[int, bytes]:
        status, answer = await self.inference.post(_path(version), body, content_type=wire.CONTENT_TYPE)
        if status == 404:
            # The version was unregistered after its name was read from what is deployed: read that again, once.
            deployed = self.deployed.refresh()
            again = deployed.canary if assigned.assignment.variant == "canary" else deployed.champion
            again = again or deployed.champion
            if again is not None and again != version:
                status, answer = await self.inference.post(_path(again), body, content_type=wire.CONTENT_TYPE)
        return status, answer


def _path(version: str) -> str:
    return f"/predictions/{MODEL_NAME}/{version}"
