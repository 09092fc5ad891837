"""The shop in the memory of gateway and worker: the catalogue, and the popular list that is made from it.

Both follow the folder that the materialise step replaces.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recommender import logs
from recommender.errors import RecommenderError
from recommender.matching.affinity import UserAffinity
from recommender.matching.candidates import NOTHING, Candidates, Dropped, candidates
from recommender.matching.catalogue import Catalogue
from recommender.matching.item_choice import popular_items, prepare
from recommender.matching.reasons import popularity_reason
from recommender.policies.exploration import explore
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST
from serving.answer import Campaign, Item, Ranking
from serving.clock import decision_time_us
from serving.explanations import Ranked, dropped_ids, explained
from serving.request import ScoringRequest

log = logs.get(__name__)


@dataclass(frozen=True, eq=False)
class Shop:
    """One catalogue, and the answers that need nothing else, such as the popular list."""

    catalogue: Catalogue

    @cached_property
    def _names(self) -> list[str]:
        return [name or self.catalogue.item_ids[row] for row, name in enumerate(self.catalogue.item_names)]

    @cached_property
    def base_rates(self) -> list[float]:
        """`campaign_popularity_C` of each campaign, as it stands in answers."""
        return [float(rate) for rate in self.catalogue.campaign_popularity_C]

    @cached_property
    def popularity_reasons(self) -> list[str]:
        """The reason for each campaign that no fact about the user supports."""
        return [popularity_reason(self.catalogue, row) for row in range(len(self.catalogue.campaign_ids))]

    def warm(self) -> "Shop":
        """Compute cached values now, so that the first request does not wait for them."""
        _ = self.catalogue.taxonomy_version, self.catalogue.axis_sizes, self._names
        _ = self.base_rates, self.popularity_reasons
        if self.catalogue.campaign_ids:
            self.catalogue.rows(self.catalogue.campaign_ids[:1])
            prepare(self.catalogue)
        return self

    def candidates(
        self, asked: ScoringRequest, user: UserAffinity | None = None, out: Mapping[str, Dropped] = NOTHING
    ) -> Candidates:
        """The candidates of a request, without what the user has taken up or hidden, where that is known."""
        request = asked.request
        return candidates(
            self.catalogue,
            asked.as_of_us,
            named=request.campaign_ids,
            excluded=request.exclude_campaign_ids,
            user=user,
            out=out,
            repeats=asked.allow_repeats,
        )

    def popular(
        self, asked: ScoringRequest, user: UserAffinity | None = None, out: Mapping[str, Dropped] = NOTHING
    ) -> Ranking:
        """The popular list, which unknown users get, and all users while store or model is unavailable."""
        request, found = asked.request, self.candidates(asked, user, out)
        score_N = self.catalogue.newcomer_scores(found.rows_N, asked.as_of_us)
        best_N, exploration = np.argsort(-score_N, kind="stable"), None
        rows_N, score_N = found.rows_N[best_N], score_N[best_N]
        if asked.exploration is not None and len(rows_N):
            explored = explore(score_N, request.user_id, asked.exploration)
            rows_N, score_N = rows_N[explored.order_N], score_N[explored.order_N]
            exploration = explored.record(min(len(rows_N), request.num_campaigns))
        num_shown = min(len(rows_N), request.num_campaigns)
        campaigns = self._listed(rows_N[:num_shown], score_N[:num_shown], request.num_items)
        explanations = None
        if request.explain:
            ranked = [
                Ranked(one["campaign_id"], one["score"], one["reasons"]) for one in self._listed(rows_N, score_N, 0)
            ]
            explanations = explained(ranked, found.dropped, num_shown=len(campaigns))
        return Ranking(campaigns, dropped_ids(request, found), exploration, explanations)

    def item(self, row: int, reason: str | None) -> Item:
        """One item in the form of an answer."""
        return {"item_id": self.catalogue.item_ids[row], "name": self._names[row], "reason": reason}

    def campaign(self, row: int, score: float, items: list[Item], reasons: list[str]) -> Campaign:
        """One campaign in the form of an answer. Without a name it is called by its identifier."""
        catalogue = self.catalogue
        return {
            "campaign_id": catalogue.campaign_ids[row],
            "name": catalogue.campaign_names[row] or catalogue.campaign_ids[row],
            "kind": catalogue.campaign_kinds[row],
            "score": score,
            "base_rate": self.base_rates[row],
            "items": items,
            "reasons": reasons,
        }

    def _listed(self, rows: NDArray[np.int32], scores: NDArray[np.float32], num_items: int) -> list[Campaign]:
        answer = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            items = [self.item(item, None) for item in popular_items(self.catalogue, row, num_items).tolist()]
            answer.append(self.campaign(row, score, items, [self.popularity_reasons[row]]))
        return answer


class ShopFollower:
    """Follows the catalogue below `home`, and keeps the previous one while the new one is damaged or half-written."""

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
        """The moment of a decision made now, µs since 1970, UTC."""
        return self._fixed_us if self._fixed_us is not None else decision_time_us(self._settings)

    def refresh(self) -> Shop | None:
        """Read the catalogue again if its folder was replaced, without raising for whatever lies in it."""
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
                    log.info("catalogue loaded", catalogue_version=self.current.catalogue.version)
                except (RecommenderError, OSError, ValueError, KeyError, TypeError) as error:
                    self.problem = f"{type(error).__name__}: {error}"
                    log.warning("catalogue cannot be read", folder=str(self._folder), problem=self.problem)
            return self.current
