"""Metrics of whole lists beyond accuracy: exact definitions, vectorised over the weights of a bootstrap.

Every metric takes the shown lists and weights of shape [R, L]: one row for each resample of the lists, or one row of
ones for the value itself. It returns R values, NaN where they are undefined.

Shapes: L lists, one a user · K places of a list · I items of a campaign · C campaigns · R resamples · P shown items.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recommender.evaluation.metrics import Floats
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.item_choice import MIN_POPULARITY
from recommender.matching.rerank import Shares, category_mix, divergence, overlaps, place_weight

ATTRIBUTES = tuple(AXES.index(name) for name in AXES if name != "product")
"""Axes on which two items may differ: all but the item itself."""


@dataclass(frozen=True, eq=False)
class ShownLists:
    """The lists that one ranker gives to L users, cut at K campaigns."""

    catalogue: Catalogue
    rows_C: NDArray[np.int32]
    """Rows in the catalogue of the campaigns that were candidates of any list, ascending."""
    shown_LK: NDArray[np.int64]
    """Places in `rows_C`, the first campaign first, -1 where a list is shorter."""
    items_LKI: NDArray[np.int32]
    """Items that are shown of each campaign: rows in the catalogue, 0 for none."""
    candidate_LC: NDArray[np.bool_]
    """Whether the campaign could be shown."""
    relevant_LC: NDArray[np.bool_]
    """Whether the user took the campaign up later, as far as that is known."""
    shares: Sequence[Shares]
    """[L]: what the users buy."""
    top: int
    """Places that catch a participation."""
    groups: Mapping[str, NDArray[np.int64]]
    """Axis of shopper groups -> each user's group [L], numbered from 0; -1: not judged."""

    @property
    def ones(self) -> Floats:
        """The weights that give the value itself, float64 [1, L]."""
        return np.ones((1, len(self.shown_LK)))

    @cached_property
    def exposure_LC(self) -> Floats:
        """Attention that each list gives each campaign: 1 for the first place, 1 / log2(place + 1) in general."""
        exposure_LC = np.zeros(self.candidate_LC.shape)
        for place in range(self.shown_LK.shape[1]):
            lists = np.flatnonzero(self.shown_LK[:, place] >= 0)
            exposure_LC[lists, self.shown_LK[lists, place]] = float(place_weight(place))
        return exposure_LC

    @cached_property
    def caught_LC(self) -> NDArray[np.bool_]:
        """Participations in campaigns that have one of the `top` places."""
        return self.relevant_LC & (self.exposure_LC >= float(place_weight(self.top - 1)))


def campaign_coverage(lists: ShownLists, weights_RL: Floats) -> Floats:
    """Share of the campaigns that could be shown which at least one list shows, in [0, 1]. Higher is better.

    Catalogue coverage, Herlocker et al., ACM TOIS 2004; Ge, Delgado-Battenfeld & Jannach, RecSys 2010.
    """
    drawn_RL = (weights_RL > 0).astype(np.float64)
    could_RC, shown_RC = drawn_RL @ lists.candidate_LC > 0, drawn_RL @ (lists.exposure_LC > 0) > 0
    return _ratio(shown_RC.sum(axis=1), could_RC.sum(axis=1))


def item_coverage(lists: ShownLists, weights_RL: Floats) -> Floats:
    """Share of the items of these campaigns that at least one list shows, in [0, 1]. Higher is better.

    It grows with the number of lists: compare it on the same ones. Source: as `campaign_coverage`.
    """
    could = {item for row in lists.rows_C.tolist() for item in lists.catalogue.items_of(row).tolist()}
    owners, places = np.nonzero(lists.items_LKI.reshape(len(lists.items_LKI), -1))
    items = lists.items_LKI.reshape(len(lists.items_LKI), -1)[owners, places]
    known, columns = np.unique(items, return_inverse=True)
    shown = csr_matrix((np.ones(len(owners)), (columns, owners)), shape=(len(known), len(lists.items_LKI)))
    covered_R = (shown @ (weights_RL.T > 0).astype(np.float64) > 0).sum(axis=0)
    return np.asarray(covered_R / max(len(could), 1), dtype=np.float64)


def exposure_gini(lists: ShownLists, weights_RL: Floats) -> Floats:
    """Gini coefficient of exposure over campaigns, in [0, 1 - 1 / C]: 0 if all get the same. Lower is more even.

    A campaign's exposure is the mean attention of the lists in which it could be shown, so that one which is live
    longer has no advantage. Gini in recommendation: Fleder & Hosanagar, Management Science 2009; exposure by place:
    Singh & Joachims, KDD 2018.
    """
    could_RC = weights_RL @ lists.candidate_LC
    exposure_RC = np.divide(
        weights_RL @ lists.exposure_LC, could_RC, out=np.full(could_RC.shape, np.nan), where=could_RC > 0
    )
    ordered_RC, count_R = np.sort(exposure_RC, axis=1), np.isfinite(exposure_RC).sum(axis=1)
    ranks_C = np.arange(1, exposure_RC.shape[1] + 1)  # NaN, a campaign that no drawn list could show, is sorted last
    weighted_R = np.nansum(ordered_RC * (2 * ranks_C - count_R[:, None] - 1), axis=1)
    return _ratio(weighted_R, count_R * np.nansum(ordered_RC, axis=1))


def campaign_diversity(lists: ShownLists) -> Floats:
    """1 minus the mean overlap of each two campaigns of a list [L], in [0, 1]. Higher is more varied.

    Intra-list diversity, Ziegler et al., WWW 2005. Overlap is the Jaccard index of product types. NaN for a list of
    fewer than two campaigns.
    """
    overlap_CC = overlaps(lists.catalogue, lists.rows_C)
    return _mean_of_pairs(lists.shown_LK, -1, lambda one, other: 1 - overlap_CC[one, other])


def item_diversity(lists: ShownLists) -> Floats:
    """Share of the attributes in which two items of a list differ, mean over its pairs of items [L], in [0, 1].

    Higher is more varied. Attributes are `ATTRIBUTES`, where both items have one. Source: as `campaign_diversity`.
    """
    axes_VA = lists.catalogue.item_axes_VA[:, ATTRIBUTES]

    def apart(one: NDArray[np.int64], other: NDArray[np.int64]) -> Floats:
        a_nA, b_nA = axes_VA[one], axes_VA[other]
        known_nA = (a_nA > 0) & (b_nA > 0)
        return _ratio((known_nA & (a_nA != b_nA)).sum(axis=1), known_nA.sum(axis=1))

    return _mean_of_pairs(lists.items_LKI.reshape(len(lists.items_LKI), -1), 0, apart)


def novelty(lists: ShownLists) -> Floats:
    """Mean self-information of a list's items in bits [L], >= 0. Higher is less obvious, not better by itself.

    -log2 of an item's share of all purchases of the last 90 days (Zhou et al., PNAS 2010; Vargas & Castells, RecSys
    2011). Items without a purchase count as `MIN_POPULARITY` lines a month.
    """
    popularity_V = lists.catalogue.item_popularity_V.astype(np.float64) + MIN_POPULARITY
    popularity_V[0] = 0
    information_V = np.zeros(len(popularity_V))
    information_V[1:] = -np.log2(popularity_V[1:] / popularity_V.sum())
    items_LP = lists.items_LKI.reshape(len(lists.items_LKI), -1)
    return _ratio(np.where(items_LP > 0, information_V[items_LP], 0).sum(axis=1), (items_LP > 0).sum(axis=1))


def miscalibration(lists: ShownLists) -> Floats:
    """Divergence of the category shares of a list's campaigns from the user's own in nats [L], >= 0. Lower is better.

    Kullback-Leibler divergence, smoothed, campaigns weighted by place: Steck, RecSys 2018. NaN for a user without
    purchases and for an empty list.
    """
    mix_CT = category_mix(lists.catalogue, lists.rows_C)
    weights_LC = lists.exposure_LC / np.maximum(lists.exposure_LC.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    found_L = np.full(len(lists.shares), np.nan)
    for place, own in enumerate(lists.shares):
        if len(own.values_n) and lists.shown_LK[place, 0] >= 0:
            found_L[place] = divergence(own.share_n, weights_LC[place] @ mix_CT[:, own.values_n])
    return found_L


def caught(lists: ShownLists, weights_RL: Floats) -> Floats:
    """Share of the later participations whose campaign has one of the `top` places, in [0, 1]. Higher is better.

    Recall at `top`: the true positive rate of being put there. Participations in campaigns that were live count.
    """
    return _ratio(weights_RL @ lists.caught_LC.sum(axis=1), weights_RL @ lists.relevant_LC.sum(axis=1))


def opportunity_gap(lists: ShownLists, weights_RL: Floats, axis: str) -> Floats:
    """Largest minus smallest `caught` among the groups of an axis, in [0, 1]. Lower is better.

    Equal opportunity: Hardt, Price & Srebro, NeurIPS 2016. A gap of small groups is partly chance, so its interval is
    shifted by what the bootstrap adds.
    """
    rates_RG = np.stack([caught(lists, weights_RL * of_L) for of_L in _members(lists.groups[axis])], axis=1)
    return _range(rates_RG)


def exposure_gap(lists: ShownLists, weights_RL: Floats, axis: str) -> Floats:
    """Largest difference between the exposure that a group and that all users give the campaigns, in [0, 1].

    Total variation distance of the shares of attention that campaigns get (exposure: Singh & Joachims, KDD 2018). It is
    0 if all groups see the same. Personal lists differ, so a gap is no fault by itself: watch how it changes.
    """
    everyone_RC = _normalised(weights_RL @ lists.exposure_LC)
    apart_RG = [
        np.abs(_normalised((weights_RL * of_L) @ lists.exposure_LC) - everyone_RC).sum(axis=1) / 2
        for of_L in _members(lists.groups[axis])
    ]
    return np.asarray(np.max(apart_RG, axis=0)) if apart_RG else np.full(len(weights_RL), np.nan)


def mean_gap(
    gap: Callable[[ShownLists, Floats, str], Floats],
) -> Callable[[ShownLists, Floats], Floats]:
    """The mean of a gap over all axes that have at least two judged groups."""

    def compute(lists: ShownLists, weights_RL: Floats) -> Floats:
        gaps_AR = [gap(lists, weights_RL, axis) for axis, of_L in lists.groups.items() if of_L.max(initial=-1) > 0]
        return np.mean(gaps_AR, axis=0) if gaps_AR else np.full(len(weights_RL), np.nan)

    return compute


def mean_of(per_list: Callable[[ShownLists], Floats]) -> Callable[[ShownLists, Floats], Floats]:
    """The mean of a figure of each list, over the lists that define it."""

    def compute(lists: ShownLists, weights_RL: Floats) -> Floats:
        value_L = per_list(lists)
        defined_L = np.isfinite(value_L)
        return _ratio(weights_RL @ np.where(defined_L, value_L, 0), weights_RL @ defined_L)

    return compute


def _members(groups_L: NDArray[np.int64]) -> list[Floats]:
    """Mark the users of each judged group, float64 [L] each."""
    return [(groups_L == group).astype(np.float64) for group in range(int(groups_L.max(initial=-1)) + 1)]


def _range(values_RG: Floats) -> Floats:
    defined_R = np.isfinite(values_RG).sum(axis=1) > 1
    high_R, low_R = (np.where(np.isfinite(values_RG), values_RG, end) for end in (-np.inf, np.inf))
    return np.where(defined_R, high_R.max(axis=1) - low_R.min(axis=1), np.nan)


def _mean_of_pairs(
    members_LP: NDArray[np.integer], missing: int, apart: Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]
) -> Floats:
    """Mean of `apart` over each two members of a list [L], over the pairs that define it."""
    sums_L, counts_L = np.zeros(len(members_LP)), np.zeros(len(members_LP))
    for one in range(members_LP.shape[1]):
        for other in range(one):
            both = np.flatnonzero((members_LP[:, one] != missing) & (members_LP[:, other] != missing))
            found_n = apart(members_LP[both, one].astype(np.int64), members_LP[both, other].astype(np.int64))
            defined_n = np.isfinite(found_n)
            sums_L[both[defined_n]] += found_n[defined_n]
            counts_L[both[defined_n]] += 1
    return _ratio(sums_L, counts_L)


def _normalised(exposure_RC: Floats) -> Floats:
    return _ratio(exposure_RC, exposure_RC.sum(axis=1, keepdims=True) + np.zeros_like(exposure_RC))


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    out: Floats = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
    return out
