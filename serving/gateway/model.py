"""Asks the scoring engine for the assigned version's ranking, within what is left of the request's deadline."""

import asyncio
import time
from dataclasses import dataclass, field
from functools import cached_property

import orjson

from recommender.errors import LONGEST_ANSWER
from recommender.settings import Settings
from serving import wire
from serving.answer import Ranking
from serving.deployed import Follower
from serving.engines.contract import EngineError, Reply, Scoring
from serving.gateway.decision import Assigned
from serving.gateway.limiter import Limiter, Wait
from serving.gateway.metrics import Metrics
from serving.wire_key import wire_key

SHARE = 0.5
"""Part of what is left of a deadline that a request may wait for the model. The other half is for what the limiter
cannot foresee, such as a worker that another process slows down. By hand."""
LEAST_IN_FLIGHT = 2
"""One is worked on while the next one is on its way."""
LEAST_SERVICE_S = 0.0005
"""A no-op of TorchServe takes half a millisecond of a worker."""

LATE = b'"error":"late"'
"""Part of the worker's answer to a request whose deadline had passed (`serving.worker.handler.LATE`)."""


class ModelAway(Exception):
    """The model gave no answer in time.

    `reason` goes into the answer, the decision record and the metrics, `problem` into the log. `counts` is that of
    `EngineError`.
    """

    def __init__(self, reason: str, problem: str = "", *, counts: bool = True) -> None:
        super().__init__(reason, problem)
        self.reason, self.problem, self.counts = reason, problem, counts


@dataclass(frozen=True, kw_only=True)
class Model:
    """The deployed versions behind the scoring engine."""

    settings: Settings
    deployed: Follower
    engine: Scoring
    metrics: Metrics
    limiters: dict[str, Limiter] = field(default_factory=dict)
    """Version -> the requests under way to it. A version that is slow fills only its own."""

    async def rank(self, assigned: Assigned, features: bytes, left_s: float) -> tuple[Ranking, str]:
        """The ranking of one user, whose packed features are sent as they are, and the version that made it.

        It may take `left_s` seconds.

        Raises:
            ModelAway: No version is deployed, too many requests wait for it, the deadline passed, there is no
                connection, or the answer is an error.
        """
        version = assigned.version
        if version is None:
            raise ModelAway("no_model")
        limiter = self.limiter(version)
        if not limiter.admits(left_s):
            raise ModelAway("model_busy")
        body = wire.encode(assigned.asked, features, self._key)
        asked_s, wait = time.perf_counter(), Wait(limiter)
        try:
            async with asyncio.timeout(left_s):
                status, content, arrived_s = await self._score(assigned, version, body)
            wait.end(at_s=arrived_s)
        except TimeoutError:
            raise ModelAway("model_late") from None
        except EngineError as error:
            raise ModelAway("model_away", str(error), counts=error.counts) from None
        finally:
            wait.end(finished=False)
            self.metrics.model_seconds.labels(assigned.assignment.variant).observe(time.perf_counter() - asked_s)
        if status == 503 and LATE in content:
            raise ModelAway("model_late")
        if status != 200:
            raise ModelAway("model_error", f"{status}: {content[:LONGEST_ANSWER].decode(errors='replace')}")
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise ModelAway("model_error", "the answer is not JSON") from None
        ranking = Ranking(
            found["campaigns"], found["dropped_campaign_ids"], found.get("exploration"), found.get("explanations")
        )
        return ranking, str(found["model_version"])

    def room(self, deadline_s: float) -> int | None:
        """Requests that the champion could take now. None: no version is deployed."""
        champion = self.deployed.current.champion
        if champion is None:
            return None
        limiter = self.limiter(champion)
        return limiter.limit(deadline_s) - limiter.in_flight

    def limiter(self, version: str) -> Limiter:
        """The limiter of a version."""
        if version not in self.limiters:
            kept = self.deployed.current.versions
            for gone in [known for known in self.limiters if known not in kept and not self.limiters[known].in_flight]:
                del self.limiters[gone]
            self.limiters[version] = Limiter(share=SHARE, least=LEAST_IN_FLIGHT, floor_s=LEAST_SERVICE_S)
        return self.limiters[version]

    async def probe(self, version: str) -> int:
        """The status with which a version answers a real prediction, for as long as the caller lets it take.

        Raises:
            EngineError: There is no connection, or it broke.
        """
        return await self.engine.probe(version)

    @cached_property
    def _key(self) -> bytes:
        return wire_key(self.settings)

    async def _score(self, assigned: Assigned, version: str, body: bytes) -> Reply:
        reply = await self.engine.score(version, body)
        if reply.status == 404:
            # The version was unloaded after its name was read from what is deployed: read that again, once.
            deployed = self.deployed.refresh()
            again = deployed.canary if assigned.assignment.variant == "canary" else deployed.champion
            again = again or deployed.champion
            if again is not None and again != version:
                reply = await self.engine.score(again, body)
        return reply
