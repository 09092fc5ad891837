"""What a serving process holds in memory of the shop: the catalogue and "now", replaced when the materialise step replaces them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import RecommenderError
from recommender.matching.catalogue import Catalogue
from recommender.matching.item_choice import popular_items
from recommender.matching.reasons import popularity_reason
from recommender.policies.exploration import Exploration, explore
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST
from serving.clock import decision_time_us


@dataclass(frozen=True, eq=False)
class Shop:
    """One catalogue, with what is answered from it alone."""

    catalogue: Catalogue

    @cached_property
    def _names(self) -> list[str]:
        return [name or self.catalogue.item_ids[row] for row, name in enumerate(self.catalogue.item_names)]

    def warm(self) -> "Shop":
        """Compute what the first request would otherwise wait for."""
        _ = self.catalogue.taxonomy_version, self.catalogue.axis_sizes, self._names
        if self.catalogue.campaign_ids:
            self.catalogue.rows(self.catalogue.campaign_ids[:1])
            popular_items(self.catalogue, 0)
        return self

    def candidates(self, as_of_us: int, campaign_ids: Sequence[str] | None) -> tuple[NDArray[np.int32], list[str]]:
        """Rows of the live candidates, most popular first, and the identifiers that are unknown or not live."""
        live = self.catalogue.popular(self.catalogue.live(as_of_us))
        if campaign_ids is None:
            return live, []
        wanted, unknown = self.catalogue.rows(campaign_ids)
        chosen = live[np.isin(live, wanted)]
        is_live = set(chosen.tolist())
        ended = [self.catalogue.campaign_ids[row] for row in wanted.tolist() if row not in is_live]
        return chosen, [*unknown, *ended]

    def item(self, row: int, reason: str | None) -> dict[str, Any]:
        return {"item_id": self.catalogue.item_ids[row], "name": self._names[row], "reason": reason}

    def campaign(self, row: int, score: float, items: list[dict[str, Any]], reasons: list[str]) -> dict[str, Any]:
        catalogue = self.catalogue
        return {
            "campaign_id": catalogue.campaign_ids[row],
            "name": catalogue.campaign_names[row] or catalogue.campaign_ids[row],
            "kind": catalogue.campaign_kinds[row],
            "score": score,
            "items": items,
            "reasons": reasons,
        }

    def popular(
        self, as_of_us: int, campaign_ids: Sequence[str] | None, num_campaigns: int, num_items: int
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """The popular list: what an unknown user gets, and everyone while store or model is away."""
        rows, dropped = self.candidates(as_of_us, campaign_ids)
        return self._listed(rows[:num_campaigns], num_items), dropped

    def explored(
        self,
        as_of_us: int,
        campaign_ids: Sequence[str] | None,
        num_campaigns: int,
        num_items: int,
        *,
        user_id: str,
        exploration: Exploration,
    ) -> tuple[list[dict[str, Any]], list[str], dict[str, Any] | None]:
        """The popular list in an order that chance took part in, and its propensities (None: no campaign is live)."""
        rows, dropped = self.candidates(as_of_us, campaign_ids)
        if len(rows) == 0:
            return [], dropped, None
        found = explore(self.catalogue.campaign_popularity_C[rows], user_id, exploration)
        chosen = rows[found.order_N[:num_campaigns]]
        return self._listed(chosen, num_items), dropped, found.record(len(chosen))

    def _listed(self, rows: NDArray[np.int32], num_items: int) -> list[dict[str, Any]]:
        answer = []
        for row in rows.tolist():
            items = [self.item(item, None) for item in popular_items(self.catalogue, row)[:num_items].tolist()]
            score = float(self.catalogue.campaign_popularity_C[row])
            answer.append(self.campaign(row, score, items, [popularity_reason(self.catalogue, row)]))
        return answer


class ShopFollower:
    """The present shop of `home`; a damaged or half-written catalogue leaves the one before it in place."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder: Path = Home.of(settings).catalogue
        self._seen: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self.current: Shop | None = None
        self.problem: str | None = f"{self._folder}: nothing was materialised yet"
        self._fixed_us: int | None = None
        self.refresh()

    def now_us(self) -> int:
        """The moment of a decision made now."""
        return self._fixed_us if self._fixed_us is not None else decision_time_us(self._settings)

    def refresh(self) -> Shop | None:
        """Read the catalogue again if its folder was replaced; never raises for what lies in it."""
        with self._lock:
            if self._settings.time.as_of is not None:
                self._fixed_us = decision_time_us(self._settings)
            try:
                stat = (self._folder / MANIFEST).stat()
            except OSError:
                return self.current
            seen = (stat.st_ino, stat.st_mtime_ns)
            if seen != self._seen:
                self._seen = seen
                try:
                    self.current, self.problem = Shop(Catalogue.load(self._folder)).warm(), None
                except (RecommenderError, OSError, ValueError, KeyError, TypeError) as error:
                    self.problem = f"{type(error).__name__}: {error}"
            return self.current
