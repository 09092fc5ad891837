"""Reasons why a campaign is shown to a user: true facts in plain words, ordered by the ranker's contributions.

A fact is read from the user's affinity to the campaign. The ranker's additive contributions to the log-odds give the
weight of each group of features. A fact whose group lowered the score is not a reason. For a ranker without
contributions the facts keep their own order.

Shapes: F features · M measures of the affinity · n values of an axis that the user bought.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES, MEASURES, Matched
from recommender.matching.catalogue import Catalogue

GROUPS = ("products", "product_types", "coupons", "brands", "campaigns")
"""Kinds of facts, in the order in which they are given without contributions: the most concrete first."""


_PRODUCT, _PRODUCT_TYPE, _MANUFACTURER = (AXES.index(axis) for axis in ("product", "product_type", "manufacturer"))
OTHER = "other"
"""Name for what the features that belong to no group contributed together."""


@dataclass(frozen=True, eq=False)
class FeatureGroups:
    """The columns of the features that belong to each kind of fact."""

    members: dict[str, NDArray[np.intp]]

    @classmethod
    def of(cls, feature_names: Sequence[str]) -> "FeatureGroups":
        """Assign features to groups by their names. A feature may belong to none."""
        found: dict[str, list[int]] = {group: [] for group in GROUPS}
        for column, name in enumerate(feature_names):
            group = _group(name)
            if group is not None:
                found[group].append(column)
        return cls({group: np.array(columns, dtype=np.intp) for group, columns in found.items()})

    def weights(self, contributions_NF: NDArray[np.float32]) -> list[dict[str, float]]:
        """Sum what each group, and all `OTHER` features together, contributed to the log-odds of each of N pairs."""
        sums = {
            # `take` copies each pair's columns beside each other, so that a pair's sum has the same bits in any batch.
            group: np.take(contributions_NF, columns, axis=1).sum(axis=1).tolist()
            for group, columns in self.members.items()
        }
        totals_N = contributions_NF.sum(axis=1, dtype=np.float64).tolist()
        found = []
        for total, *each in zip(totals_N, *sums.values(), strict=True):
            weights = dict(zip(sums, each, strict=True))
            found.append({**weights, OTHER: total - sum(each)})
        return found


OF_VALUES = ("base__", "interest__department_", "campaign__department_", "campaign__type_")
"""Starts of features that are named by a value of the data. A department called `coupons` is no fact about coupons."""
OF_TYPES = ("_targeted", "_rate")
"""Ends of `behaviour__*` features that are named by a campaign type."""


def _group(name: str) -> str | None:
    if name.startswith(OF_VALUES) or (name.startswith("behaviour__") and name.endswith(OF_TYPES)):
        return None
    if name.startswith("affinity__same_type__") or "participat" in name or "redeem" in name:
        return "campaigns"
    if "coupon" in name:
        return "coupons"
    if name.startswith("affinity__product__"):
        return "products"
    if name.startswith(("affinity__product_type__", "affinity__category__")):
        return "product_types"
    if name.startswith(("affinity__brand__", "affinity__manufacturer__")):
        return "brands"
    return None


@dataclass(frozen=True)
class Fact:
    """A statement about the user's past that can be checked in the log."""

    group: str
    """One of `GROUPS`."""
    text: str
    count: int
    """What the text counts: items bought, purchase lines, or campaigns taken up."""
    days: int | None = None
    """Length of the time that the count covers, in days before the features' time. None: all of the user's history."""


def reasons(
    matched: Matched,
    column: int,
    *,
    weights: dict[str, float] | None,
    base_rate: float = 0.0,
    is_recent: bool = True,
    most: int = 3,
) -> list[Fact]:
    """List at most `most` reasons for a campaign, the strongest first.

    A fact whose group lowered the score does not speak for the campaign. The user's own items are the exception: that
    the ranker expected more of them makes them no less the user's own, and nothing else may speak for the campaign.

    Args:
        matched: what the user bought of the campaigns' items.
        column: the campaign's column in `matched`.
        weights: what `FeatureGroups.weights` returned for the pair, or None for a ranker without contributions.
        base_rate: participation rate of campaigns like this one. A user's own rate below it does not speak for it.
        is_recent: whether the features are of now, so that "in the last 30 days" is true.
        most: the limit, chosen by hand.
    """
    facts = _facts(matched, column, base_rate=base_rate, is_recent=is_recent)
    order = [group for group in GROUPS if group in facts]
    if weights is not None:
        order = sorted((group for group in order if weights[group] > 0), key=lambda group: -weights[group])
        if not order and "products" in facts:
            order = ["products"]
    return [facts[group] for group in order[:most]]


def popularity_reason(catalogue: Catalogue, campaign: int) -> str:
    """Return the reason for a campaign that no fact about the user supports."""
    in_100 = round(float(catalogue.campaign_popularity_C[campaign]) * 100)
    number = f"About {in_100}" if in_100 else "Fewer than 1"
    return f"{number} in 100 shoppers who got campaigns like this one took them up"


def _facts(matched: Matched, column: int, *, base_rate: float, is_recent: bool) -> dict[str, Fact]:
    """State one fact for each group that has one."""
    facts: dict[str, Fact] = {}

    def state(group: str, text: str, count: int, days: int | None = None) -> None:
        facts[group] = Fact(group, text, count, days)

    if num := int(matched.sums_ASC[_PRODUCT, -1, column]):
        state("products", f"You have bought {num} of its items before", num)
    lines_of_types = _lines(matched, column, _PRODUCT_TYPE)
    windows = (("lines_30", 30, "in the last 30 days"), ("lines_90", 90, "in the last 90 days"))
    for measure, days, when in (*(windows if is_recent else ()), ("lines", None, "so far")):
        if num := lines_of_types[measure]:
            things = _counted(num, "thing", "things")
            state("product_types", f"You bought {things} of these product types {when}", num, days)
            break
    if num := lines_of_types["coupon"]:
        things = _counted(num, "thing", "things")
        state("coupons", f"You used a coupon for {things} of these product types", num)
    measure, days, when = windows[1] if is_recent else ("lines", None, "so far")
    if num := _lines(matched, column, _MANUFACTURER)[measure]:
        state("brands", f"You bought {_counted(num, 'thing', 'things')} of these makers {when}", num, days)
    targeted, redeemed = map(int, matched.past_2C[:, column].tolist())
    if redeemed and redeemed >= base_rate * targeted:
        last = "your last campaign" if targeted == 1 else f"{redeemed} of your last {targeted} campaigns"
        state("campaigns", f"You took up {last} of this type", redeemed)
    return facts


def _lines(matched: Matched, column: int, axis: int) -> dict[str, int]:
    """Count the user's purchase lines whose value on the axis is among the campaign's, by measure."""
    sums_M = matched.sums_ASC[axis, : len(MEASURES), column].tolist()
    return dict(zip(MEASURES, map(int, sums_M), strict=True))


def _counted(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
