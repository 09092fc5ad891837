"""Keeps a sick version away from shoppers: a circuit breaker for each version, and the champion behind a canary.

A canary that fails, or whose breaker is open, is answered for by the champion within the same deadline. The record
then names the champion as the variant. It does not matter which engine runs a version: whatever raises `ModelAway`
counts.
"""

import asyncio
import os
import time
from dataclasses import dataclass, field, replace

from recommender import logs
from recommender.decisions.assignment import Assignment
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.answer import Ranking
from serving.deployed import Follower
from serving.engines.contract import EngineError
from serving.gateway import tracing
from serving.gateway.breaker import Breaker, State
from serving.gateway.decision import Assigned
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model, ModelAway
from serving.version_health import Sick, write_report

log = logs.get(__name__)
CANARY_SHARE = 0.5
"""Part of what is left of a deadline that a canary gets. The champion has the rest, where the canary fails."""
LEAST_GIVEN = 0.25
"""A late answer is the version's fault only where it had this part of the deadline: else the request came too late."""
CANARY_AWAY = "canary_away"
FAULTS = ("model_late", "model_away", "model_error")
"""Reasons that count against a version. `model_busy` does not: the gateway itself refused to ask."""
LOOK_S = 0.25
"""Seconds between looks for breakers to probe. By hand: small beside `pause_s`."""
IDLE_S = 2.0
"""A version without an answer for so long is probed, so that its health is known without traffic. By hand."""
LEAST_PROBE_S = 0.25
"""A probe gets the deadline, and at least this."""
REPORT_S = 1.0
"""Seconds between reports to the deployer while a version is sick: see `serving.version_health`."""
STATES: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}
"""State of a breaker -> value of its metric."""


@dataclass(frozen=True)
class Ranked:
    """A version's ranking, and who made it for which variant."""

    ranking: Ranking
    model_version: str
    assigned: Assigned
    """As it was answered: the variant is the champion where the champion answered for the canary."""
    reasons: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Isolation:
    """The deployed versions of one gateway process, each behind its circuit breaker."""

    settings: Settings
    deployed: Follower
    model: Model
    metrics: Metrics
    breakers: dict[str, Breaker] = field(default_factory=dict)
    _probes: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _reported: frozenset[str] = frozenset()
    _reported_s: float = 0.0

    async def rank(self, assigned: Assigned, features: bytes) -> Ranked:
        """The ranking by the assigned version, or by the champion where that is a canary that fails.

        Raises:
            ModelAway: Neither answered in time. The reason is the one of the last that was asked.
        """
        champion = self.deployed.current.champion
        left_s = assigned.arrival.left_s()
        if assigned.assignment.variant != "canary" or champion in (None, assigned.version):
            return await self._ask(assigned, features, left_s)
        try:
            return await self._ask(assigned, features, CANARY_SHARE * left_s)
        except ModelAway as error:
            logs.bind(canary_problem=error.problem or error.reason)
        instead = replace(_as_champion(assigned), version=champion)
        answered = await self._ask(instead, features, assigned.arrival.left_s())
        return replace(answered, assigned=_as_champion(assigned), reasons=(CANARY_AWAY,))

    async def _ask(self, assigned: Assigned, features: bytes, left_s: float) -> Ranked:
        version = assigned.version
        if version is None:
            raise ModelAway("no_model")
        if left_s <= 0:
            raise ModelAway("model_late")
        breaker = self.breaker(version)
        if breaker.state != "closed":
            raise ModelAway("model_sick", f"{version}: its circuit breaker is open ({breaker.problem})")
        try:
            with tracing.span("engine", model_version=version):
                ranking, answered = await self.model.rank(assigned, features, left_s)
        except ModelAway as error:
            self._failed(version, breaker, error, left_s)
            raise
        breaker.succeeded(time.monotonic())
        if answered != version and answered == self.deployed.current.champion:
            # The canary was ended between the assignment and the answer, so its users have the champion by now.
            assigned = _as_champion(assigned)
        return Ranked(ranking, answered, assigned)

    def _failed(self, version: str, breaker: Breaker, error: ModelAway, left_s: float) -> None:
        late = error.reason == "model_late"
        if error.reason not in FAULTS or not error.counts or (late and left_s < LEAST_GIVEN * self._deadline_s):
            return
        self.metrics.model_failures.labels(version, error.reason).inc()
        was = breaker.state
        breaker.failed(time.monotonic(), error.problem or error.reason, late=late)
        self._note(version, was, breaker)

    def breaker(self, version: str) -> Breaker:
        """The breaker of a version."""
        if version not in self.breakers:
            self.breakers[version] = Breaker(self.settings.isolation, patience_s=self._deadline_s)
        return self.breakers[version]

    @property
    def champion_answers(self) -> bool:
        """Whether the champion has answered here, and is not sick."""
        champion = self.deployed.current.champion
        if champion is None or (breaker := self.breakers.get(champion)) is None:
            return False
        return breaker.answered and breaker.state == "closed"

    @property
    def _deadline_s(self) -> float:
        return self.settings.serving.deadline_ms / 1e3

    # --- health

    async def watch(self) -> None:
        """Probe what is silent or sick, and report what is sick, for as long as the gateway runs."""
        while True:
            try:
                await self.look()
            except OSError as error:
                log.warning("health of versions not reported", problem=str(error))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Begin the probes that are due, and tell the deployer which versions are sick."""
        now_s, deployed = time.monotonic(), self.deployed.current.versions
        for gone in [version for version in self.breakers if version not in deployed]:
            del self.breakers[gone]
        for version in deployed:
            breaker = self.breaker(version)
            breaker.tick(now_s)
            idle = breaker.state == "closed" and now_s - breaker.last_answer_s >= IDLE_S
            if version not in self._probes and (idle or breaker.probe_is_due(now_s)):
                self._probes[version] = asyncio.create_task(self._probe(version, breaker))
        await self._report(now_s)

    async def _probe(self, version: str, breaker: Breaker) -> None:
        was, problem = breaker.state, None
        if was == "open":
            breaker.probing()
        try:
            async with asyncio.timeout(max(LEAST_PROBE_S, self._deadline_s)):
                status = await self.model.probe(version)
            if status != 200:
                problem = f"a probe was answered with {status}"
        except TimeoutError:
            problem = "a probe was not answered in time"
        except EngineError as error:
            problem = str(error)
        finally:
            self._probes.pop(version, None)
        breaker.probed(time.monotonic(), problem)
        self._note(version, was, breaker)

    async def _report(self, now_s: float) -> None:
        sick = {
            version: Sick(round(now_s - breaker.sick_since_s, 3), breaker.problem)
            for version, breaker in self.breakers.items()
            if breaker.sick_since_s is not None
        }
        if frozenset(sick) != self._reported or (sick and now_s - self._reported_s >= REPORT_S):
            self._reported, self._reported_s = frozenset(sick), now_s
            folder = ServingState.of(self.settings).health
            await asyncio.to_thread(write_report, folder, str(os.getpid()), sick)

    def _note(self, version: str, was: State, breaker: Breaker) -> None:
        if was == "closed" and breaker.state == "open":
            log.warning("circuit breaker opened", model_version=version, problem=breaker.problem)
        elif was == "open" and breaker.state == "closed":
            log.info("circuit breaker closed", model_version=version)

    def described(self) -> dict[str, dict[str, object]]:
        """The health of each deployed version, for /readyz."""
        now_s = time.monotonic()
        return {
            version: {
                "breaker": breaker.state,
                "sick_s": None if breaker.sick_since_s is None else round(now_s - breaker.sick_since_s, 1),
                "problem": breaker.problem if breaker.sick_since_s is not None else None,
            }
            for version, breaker in self.breakers.items()
            if version in self.deployed.current.versions
        }


def _as_champion(assigned: Assigned) -> Assigned:
    """The same request, which the champion answers. While a canary is away, every user gets the champion.

    The version that was assigned stays in the record.
    """
    return replace(assigned, assignment=Assignment("champion", 1.0))
