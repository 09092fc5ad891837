"""What the registry wants a replica to serve, and whether it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from recommender.registry.registry import Status
from serving.deployed import Deployed


@dataclass(frozen=True)
class Wanted:
    """The versions that the registry names."""

    champion: str
    canary: str | None
    share: float
    former: str | None
    """The champion to which a rollback would go back."""

    @classmethod
    def of(cls, status: Status, *, keep_former: bool) -> Self:
        """What a state of the registry with a champion wants."""
        assert status.champion is not None
        canary = status.canary
        former = status.previous[-1] if status.previous and keep_former else None
        answering = (status.champion.version, canary.version if canary else None)
        return cls(*answering, canary.share if canary else 0.0, None if former in answering else former)

    def is_deployed(self, before: Deployed, live: Mapping[str, Sequence[str]]) -> bool:
        """Whether this is deployed already, as far as it can be.

        A version that failed is not tried again before the registry wants another one.
        """
        asked = {version for version in (self.champion, self.canary, self.former) if version is not None}
        if not asked <= {*before.loaded, *before.failed} or before.champion is None:
            return False
        if (before.champion != self.champion and self.champion not in before.failed) or set(before.failed) - asked:
            return False
        if before.canary != self.canary and self.canary not in before.failed and self.canary != before.champion:
            return False
        if before.canary is not None and before.canary_share != self.share:
            return False
        if before.former is not None and before.former != self.former:
            return False
        return all("READY" in live.get(version, []) for version in before.loaded)
