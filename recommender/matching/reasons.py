"""Why this campaign for this user: true facts in plain words, ordered by what the ranker made of them.

A fact is read from the user's affinity to the campaign; the ranker's additive contributions to the log-odds say how much each
group of features weighed. A fact whose group spoke against the campaign is not a reason. A ranker without contributions leaves
the facts in their own order.

Shapes: N pairs · F features · M measures of the affinity.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES, MEASURES, Incidence, UserAffinity
from recommender.matching.catalogue import Catalogue

GROUPS = ("products", "product_types", "coupons", "brands", "campaigns")


@dataclass(frozen=True, eq=False)
class FeatureGroups:
    """Which features each kind of fact speaks for."""

    members: dict[str, NDArray[np.intp]]

    @classmethod
    def of(cls, feature_names: Sequence[str]) -> "FeatureGroups":
        found: dict[str, list[int]] = {group: [] for group in GROUPS}
        for column, name in enumerate(feature_names):
            group = _group(name)
            if group is not None:
                found[group].append(column)
        return cls({group: np.array(columns, dtype=np.intp) for group, columns in found.items()})

    def weights(self, contributions_F: NDArray[np.float32]) -> dict[str, float]:
        """What each group added to one pair's log-odds."""
        return {group: float(contributions_F[columns].sum()) for group, columns in self.members.items()}


def _group(name: str) -> str | None:
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


def reasons(
    user: UserAffinity,
    campaigns: Incidence,
    column: int,
    *,
    weights: dict[str, float] | None,
    most: int = 3,
) -> list[str]:
    """At most `most` reasons for the campaign laid out at `column`, the strongest first; none where no fact speaks for it."""
    facts = _facts(user, campaigns, column)
    order = [group for group in GROUPS if group in facts]
    if weights is not None:
        order = sorted((g for g in order if weights[g] > 0), key=lambda group: -weights[group])
    return [facts[group] for group in order[:most]]


def popularity_reason(catalogue: Catalogue, campaign: int) -> str:
    """What is said of a campaign to a user of whom nothing speaks for it."""
    rate = float(catalogue.campaign_popularity_C[campaign])
    return f"About {max(rate * 100, 1):.0f} in 100 shoppers take up campaigns like this one"


def _facts(user: UserAffinity, campaigns: Incidence, column: int) -> dict[str, str]:
    facts: dict[str, str] = {}
    if num := int(_matched(user, campaigns, column, "product").sum()):
        facts["products"] = f"You have bought {num} of its items before"
    typed = _lines(user, campaigns, column, "product_type")
    for measure, when in (
        ("lines_30", "in the last 30 days"),
        ("lines_90", "in the last 90 days"),
        ("lines", "so far"),
    ):
        if num := typed[measure]:
            facts["product_types"] = f"You bought {_counted(num, 'thing', 'things')} of these product types {when}"
            break
    if num := typed["coupon"]:
        facts["coupons"] = f"You used a coupon for {_counted(num, 'thing', 'things')} of these product types"
    if num := _lines(user, campaigns, column, "manufacturer")["lines_90"]:
        facts["brands"] = f"You bought {_counted(num, 'thing', 'things')} of these makers in the last 90 days"
    same = user.types == campaigns.types[column]
    targeted, taken = int(user.targeted[same].sum()), int(user.redeemed[same].sum())
    if taken:
        facts["campaigns"] = (
            f"You took up {taken} of your last {_counted(targeted, 'campaign', 'campaigns')} of this type"
        )
    return facts


def _lines(user: UserAffinity, campaigns: Incidence, column: int, axis: str) -> dict[str, int]:
    """The user's purchase lines whose value on the axis is among the campaign's, by measure."""
    matched_n = _matched(user, campaigns, column, axis)
    sums_M = user.counts[AXES.index(axis)][:, matched_n].sum(axis=1, dtype=np.int64)
    return dict(zip(MEASURES, sums_M.tolist(), strict=True))


def _matched(user: UserAffinity, campaigns: Incidence, column: int, axis: str) -> NDArray[np.bool_]:
    place = AXES.index(axis)
    matched_n: NDArray[np.bool_] = campaigns.present[place][user.values[place], column] > 0
    return matched_n


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
