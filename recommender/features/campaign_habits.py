"""Features of a user's past with campaigns: how often targeted, how often taken up, of which type, how long ago.

What is past at a decision: `campaign_past`. A campaign is no evidence about itself, so the features are also computed
without each open campaign.

Shapes: D decisions · O open campaigns of all decisions · H features about campaigns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, DAY_US, SECOND_US
from recommender.errors import ContractError
from recommender.features.as_of import Ints
from recommender.features.bought import Decisions
from recommender.features.campaign_past import NONE, SUMMED, Past
from recommender.features.source import Source
from recommender.features.value_names import ValueNames
from recommender.matching.affinity import USER_PRIOR_PAIRS, USER_PRIOR_RATE, type_code

HABIT_TYPES = 8
"""Most campaign types with separate features, the first in alphabetical order. Chosen by hand: a shop has a few."""
COUNTS = (
    *("campaigns_targeted", "campaigns_redeemed", "campaigns_redeemed_90d", "campaigns_redeemed_180d"),
    *("coupons_redeemed", "open_campaigns", "open_campaigns_redeemed"),
)
"""Features that are 0, not unknown, for a user whom no campaign ever targeted. So are those with `COUNT_SUFFIXES`."""
COUNT_SUFFIXES = ("_targeted", "_redeemed")
GONE = -1
"""Number of a type that no campaign has any more. Its features stay, and count nothing."""
_OTHERS = ("campaign_rate", "coupons_per_campaign", "redeemed_recency_days", "targeted_recency_days")


def of_types(source: Source, named: ValueNames) -> dict[str, tuple[str, ...]]:
    """Name the features of each campaign type: type -> those of targeted, of redeemed, and of the rate."""
    forms = [f"behaviour__{{}}{suffix}" for suffix in (*COUNT_SUFFIXES, "_rate")]
    taken = [f"behaviour__{name}" for name in (*COUNTS, *_OTHERS)]
    return named.name("campaign_type", campaign_types(source)[:HABIT_TYPES], forms, taken=taken)


@dataclass(frozen=True, eq=False)
class Habits:
    """What is known of users' past campaigns at their decisions."""

    columns: dict[str, NDArray[np.float32]]
    """Feature -> float32 [D]. A count is 0 for a user whom no campaign ever targeted, and the rest is NaN."""
    by_type: pa.Table
    """Past campaigns by campaign type: (decision, campaign_type, targeted, redeemed), sorted.

    These counts go into a user's packed vector, from which the cross features of a request are computed."""
    own: pa.Table
    """The campaigns with an open window, see `campaign_past.Open.table`."""
    without_own_OH: NDArray[np.float32]
    """The columns without the campaign of each row of `own`."""


def habits(source: Source, decisions: Decisions, names: Mapping[str, tuple[str, ...]]) -> Habits:
    """Compute `behaviour__*` about campaigns. `names`: what `of_types` returned for all users."""
    past = Past.of(source, decisions)
    types = campaign_types(source)
    place = {name: row for row, name in enumerate(types)}
    type_of_C = np.array([place[name] for name in source.campaigns["campaign_type"].to_pylist()], dtype=np.int64)
    reading = past.changes().at(decisions.user_D, decisions.moment_us_D)
    sums = reading.before(SUMMED)
    # A season and half a year, as in `purchases.WINDOWS`.
    recent = {days: reading.within(days, ("last",))["last"] for days in (90, 180)}
    targeted_last, taken_last = past.last(past.targets, past.targets.us), past.last(past.taken, past.known_us_P)
    decision_Q, type_Q, targeted_Q, redeemed_Q = past.by_type(type_of_C)
    of_type = {}
    for name in names:
        rows = type_Q == place.get(name, GONE)
        counts_2D = np.zeros((2, len(decisions.user_D)), dtype=np.int64)
        counts_2D[:, decision_Q[rows]] = targeted_Q[rows], redeemed_Q[rows]
        of_type[name] = counts_2D
    columns = _features(sums, recent, targeted_last.us_D, taken_last.us_D, decisions.moment_us_D, of_type, names)
    opened = past.open()
    rows_O, counted_O = opened.decision_O, opened.counted_O
    redeemed_O = counted_O * opened.redeemed_O
    coupons_O, last_us_O = past.taken_by_pair(opened)
    own = {"targeted": counted_O, "open": counted_O, "redeemed": redeemed_O, "open_redeemed": redeemed_O}
    own["coupons"] = counted_O * coupons_O
    moment_us_O = decisions.moment_us_D[rows_O]
    # What counts in a window counts as in `Reading.within`.
    inside = {days: redeemed_O * (last_us_O >= moment_us_O // SECOND_US * SECOND_US - days * DAY_US) for days in recent}
    same_O = {name: type_of_C[opened.campaign_O] == place.get(name, GONE) for name in names}
    left = _features(
        {name: values_D[rows_O] - own[name] for name, values_D in sums.items()},
        {days: values_D[rows_O] - inside[days] for days, values_D in recent.items()},
        targeted_last.without(opened),
        taken_last.without(opened),
        moment_us_O,
        {
            name: counts_2D[:, rows_O] - same_O[name] * np.stack([counted_O, redeemed_O])
            for name, counts_2D in of_type.items()
        },
        names,
    )
    texts = pa.array(types, pa.string()).take(pa.array(type_Q))
    by_type = {"decision": decision_Q, "campaign_type": texts, "targeted": targeted_Q, "redeemed": redeemed_Q}
    return Habits(
        columns, pa.table(by_type), opened.table(source.campaigns["campaign_id"]), np.stack(list(left.values()), axis=1)
    )


def _features(
    sums: Mapping[str, Ints],
    recent: Mapping[int, Ints],
    targeted_us: Ints,
    taken_us: Ints,
    moment_us: Ints,
    of_type: Mapping[str, Ints],
    names: Mapping[str, tuple[str, ...]],
) -> dict[str, NDArray[np.float32]]:
    """Compute the features from counts of past campaigns and from when the last one came and was taken up."""
    targeted, redeemed, coupons = sums["targeted"], sums["redeemed"], sums["coupons"]
    known = targeted > 0
    values: dict[str, NDArray[Any]] = {
        "campaigns_targeted": targeted,
        "campaigns_redeemed": redeemed,
        "campaign_rate": (redeemed + USER_PRIOR_PAIRS * USER_PRIOR_RATE) / (targeted + USER_PRIOR_PAIRS),
        "coupons_redeemed": coupons,
        "coupons_per_campaign": coupons / np.maximum(targeted, 1),
        "open_campaigns": sums["open"],
        "open_campaigns_redeemed": sums["open_redeemed"],
        "redeemed_recency_days": _age_days(moment_us, taken_us),
        "targeted_recency_days": _age_days(moment_us, targeted_us),
        **{f"campaigns_redeemed_{days}d": counts for days, counts in recent.items()},
    }
    columns = {f"behaviour__{name}": column for name, column in values.items()}
    for campaign_type, (of_targeted, of_redeemed, of_rate) in names.items():
        targeted, redeemed = of_type[campaign_type]
        columns[of_targeted], columns[of_redeemed] = targeted, redeemed
        columns[of_rate] = (redeemed + USER_PRIOR_PAIRS * USER_PRIOR_RATE) / (targeted + USER_PRIOR_PAIRS)
    return {
        name: (column if _is_count(name) else np.where(known, column, np.nan)).astype(np.float32)
        for name, column in columns.items()
    }


def _age_days(moment_us: Ints, us: Ints) -> NDArray[np.float64]:
    # In seconds first, as DuckDB has it, so that the bits are the same.
    return np.where(us == NONE, np.nan, (moment_us / SECOND_US - us / SECOND_US) / DAY_S)


def _is_count(name: str) -> bool:
    """Whether a feature is 0, not unknown, for a user whom no campaign ever targeted."""
    return name.removeprefix("behaviour__") in COUNTS or name.endswith(COUNT_SUFFIXES)


def campaign_types(source: Source) -> list[str]:
    """List all types that the campaigns have, in alphabetical order.

    Raises:
        ContractError: two types have the same code in users' vectors (one pair in four billion).
    """
    types = sorted(set(source.campaigns["campaign_type"].to_pylist()))
    by_code: dict[int, str] = {}
    for campaign_type in types:
        other = by_code.setdefault(type_code(campaign_type), campaign_type)
        if other != campaign_type:
            problem = f"{other!r} and {campaign_type!r} have the same CRC-32; rename one in the mapping's `values`"
            raise ContractError("campaigns", problem, column="campaign_type")
    return types
