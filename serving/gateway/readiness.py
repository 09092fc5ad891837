"""Readiness: whether this replica can answer. The popular list is an answer.

The health of a version is no reason for unreadiness: all replicas serve the same versions, so a sick one would take
all of them out of the Service at once.
"""

import time
from dataclasses import dataclass, field
from typing import Literal

from recommender.errors import RecommenderError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.forgotten import ForgottenFollower
from serving.gateway.front import Front
from serving.gateway.isolation import Isolation
from serving.shop import ShopFollower

Answers = Literal["model", "popular", "nothing"]


@dataclass
class Readiness:
    """Says whether a gateway is ready, and what it can answer with."""

    settings: Settings
    shops: ShopFollower
    versions: Isolation
    front: Front
    forgotten: ForgottenFollower
    _began_s: float = field(default_factory=time.monotonic)
    _settled: bool = False
    """Whether waiting for the champion is over."""
    _has_champion: bool | None = None
    """Whether the registry has a champion. None: unknown."""

    def problem(self) -> str | None:
        """The problem that keeps the gateway from being ready, or None."""
        if self.front.draining:
            return "draining"
        if self.shops.current is None:
            # Before the first run there is nothing to wait for, and a first roll-out is to complete.
            return None if self._has_champion is False else self.shops.problem
        if not self._settled and self._has_champion is not False:
            return "waiting for the champion's first answer"
        return None

    @property
    def answers(self) -> Answers:
        """What an answer is made of now."""
        if self.shops.current is None:
            return "nothing"
        return "model" if self.versions.champion_answers and self.forgotten.current is not None else "popular"

    def nothing(self) -> str:
        """Why there is nothing to answer with."""
        if self._has_champion is False:
            return f"no champion yet, and no popular list: {self.shops.problem}"
        return f"no popular list was loaded yet: {self.shops.problem}"

    def refresh(self) -> None:
        """Look whether the registry has a champion, as long as that matters. Reads a file, so not on the event loop."""
        waited_s = time.monotonic() - self._began_s
        if waited_s >= self.settings.isolation.wait_for_model_s or self.versions.champion_answers:
            self._settled = True
        if self._settled and self.shops.current is not None:
            return
        try:
            self._has_champion = Registry(self.settings.home).champion() is not None
        except (RecommenderError, OSError):
            self._has_champion = None
