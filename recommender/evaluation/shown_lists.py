"""The lists that serving would give the users of a period, by each ranker, cut at a few campaigns.

A list is judged at its user's last decision in the period: for that moment the features are known, and participations
come after it. Its candidates are all campaigns that were live then and that the user had not taken up. The rankers are
those that saw nothing of the period, and the order is the one of serving, re-ranking included.

Shapes: L lists · M candidates of all lists · K places of a list · I items of a campaign · C campaigns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.judgement import ListRule
from recommender.evaluation.list_metrics import ShownLists
from recommender.evaluation.pairs import END_OF_LOG, PairSet, PeriodPairs, column, times
from recommender.evaluation.slices import UNKNOWN
from recommender.matching.rerank import Rerank

if TYPE_CHECKING:
    from recommender.features.decision_lists import DecisionLists


@dataclass(frozen=True, eq=False)
class PeriodLists:
    """The candidates of the users of a period, what they took up later, and which groups they belong to."""

    lists: "DecisionLists"
    relevant_M: NDArray[np.bool_]
    """Whether the user took the candidate up after the list's moment, as known when the period's labels are read."""
    segments: Mapping[str, Sequence[str]]
    """Axis -> the value of each list's user."""

    @classmethod
    def of(cls, data: PairSet, period: PeriodPairs) -> "PeriodLists | None":
        """Collect them. None if no lists were kept for the period."""
        lists = data.lists.last_in(period.starts, period.ends)
        if not len(lists.users):
            return None
        decided_us_N, users_N = times(data, "decided_at"), column(data, "user_id")
        keys_N = list(zip(users_N.tolist(), column(data, "campaign_id").tolist(), strict=True))
        redeemed_N = data.labels_at(period.known_at or END_OF_LOG, np.ones(len(keys_N), dtype=bool)).redeemed_N > 0.5
        # A pair that is decided later is no candidate's outcome: the user was not targeted yet.
        took_up = {keys_N[pair]: int(decided_us_N[pair]) for pair in np.flatnonzero(redeemed_N).tolist()}
        ids, owner_M = lists.examples.catalogue.campaign_ids, np.repeat(np.arange(len(lists.users)), lists.sizes_L)
        relevant_M = [
            took_up.get((lists.users[owner], ids[row]), np.inf) <= lists.moments_us_L[owner]
            for owner, row in zip(owner_M.tolist(), lists.examples.campaigns_N.tolist(), strict=True)
        ]
        pair_of = {key: pair for pair, key in enumerate(zip(users_N.tolist(), decided_us_N.tolist(), strict=True))}
        pairs_L = [pair_of[key] for key in zip(lists.users, lists.moments_us_L.tolist(), strict=True)]
        segments = {axis: [str(value or UNKNOWN) for value in column(data, axis)[pairs_L]] for axis in data.segments}
        return cls(lists, np.array(relevant_M, dtype=bool), segments)

    def groups(self, *, min_lists: int, min_participations: int) -> dict[str, list[str]]:
        """Axis -> the groups that are large enough to be judged."""
        counts_L = np.add.reduceat(self.relevant_M.astype(np.int64), self.lists.offsets[:-1])
        found = {}
        for axis, values in self.segments.items():
            values_L = np.array(values, dtype=object)
            found[axis] = [
                value
                for value in sorted(set(values))
                if (values_L == value).sum() >= min_lists and counts_L[values_L == value].sum() >= min_participations
            ]
        return found

    def shown(
        self, score_M: NDArray[np.float32], *, rule: ListRule, rerank: Rerank, groups: Mapping[str, Sequence[str]]
    ) -> ShownLists:
        """The lists that a ranker with these scores gives, cut at `rule.cut` campaigns.

        Args:
            score_M: the ranker's scores of all candidates.
            rule: cut, and places that catch a participation.
            rerank: how serving re-ranks.
            groups: axis -> the groups that are judged.
        """
        lists, catalogue = self.lists, self.lists.examples.catalogue
        rows_C, places_M = np.unique(lists.examples.campaigns_N, return_inverse=True)
        num_lists = len(lists.users)
        shown_LK = np.full((num_lists, rule.cut), -1, dtype=np.int64)
        items_LKI = np.zeros((num_lists, rule.cut, lists.items_MI.shape[1]), dtype=np.int32)
        for one in range(num_lists):
            own = np.arange(lists.offsets[one], lists.offsets[one + 1])
            rows_N = lists.examples.campaigns_N[own]
            first = own[rerank.order(score_M[own], rows_N, catalogue, lists.shares[one])[: rule.cut]]
            shown_LK[one, : len(first)] = places_M[first]
            items_LKI[one, : len(first)] = lists.items_MI[first]
        owner_M = np.repeat(np.arange(num_lists), lists.sizes_L)
        candidate_LC, relevant_LC = (np.zeros((num_lists, len(rows_C)), dtype=bool) for _ in range(2))
        candidate_LC[owner_M, places_M] = True
        relevant_LC[owner_M, places_M] = self.relevant_M
        numbered = {
            axis: np.array([groups[axis].index(value) if value in groups[axis] else -1 for value in values])
            for axis, values in self.segments.items()
        }
        return ShownLists(
            catalogue=catalogue,
            rows_C=rows_C,
            shown_LK=shown_LK,
            items_LKI=items_LKI,
            candidate_LC=candidate_LC,
            relevant_LC=relevant_LC,
            shares=lists.shares,
            top=rule.top,
            groups=numbered,
        )
