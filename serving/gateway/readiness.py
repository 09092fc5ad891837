"""Readiness: whether every deployed version answers a real prediction, asked once at a time."""

import asyncio
import time
from dataclasses import dataclass

from serving.deployed import Follower
from serving.engines.contract import EngineError
from serving.gateway.front import Front
from serving.gateway.model import Model
from serving.shop import ShopFollower

KEPT_S = 1.0
"""A result stands this long, so that frequent probes do not load the model. Chosen by hand, below the probes' 5 s."""
TIMEOUT_S = 2.5
"""Within the 3 s that the readiness probe of k8s/base/serving.yaml waits."""


@dataclass
class Readiness:
    """Asks the deployed versions at most once a second."""

    shops: ShopFollower
    deployed: Follower
    model: Model
    front: Front
    _at_s: float = float("-inf")
    _problem: str | None = None
    _looking: asyncio.Task[str | None] | None = None

    async def problem(self) -> str | None:
        """The problem that keeps the gateway from being ready, or None. All who ask meanwhile share one look."""
        if self.front.draining:
            return "draining"
        if time.monotonic() - self._at_s > KEPT_S:
            if self._looking is None:
                self._looking = asyncio.create_task(self._keep())
            # Shielded: a caller that hangs up does not end what others wait for.
            return await asyncio.shield(self._looking)
        return self._problem

    async def _keep(self) -> str | None:
        try:
            self._problem = await self._look()
            self._at_s = time.monotonic()
            return self._problem
        finally:
            self._looking = None

    async def _look(self) -> str | None:
        if self.shops.current is None:
            return self.shops.problem
        deployed = self.deployed.current
        if deployed.champion is None:
            return "no version is deployed"
        for version in deployed.versions:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    status = await self.model.probe(version)
            except (TimeoutError, EngineError) as error:
                return f"{version}: {error or 'no answer in time'}"
            if status != 200:
                return f"{version} answers {status}"
        return None
