"""Portrait features that follow from the packed history alone, as they are at a moment: recency, counts and spend.

The history holds the last `MAX_BASKETS` baskets with their times, so it is the ring from which baskets leave a window.
A window that begins before its oldest basket is left as it was, unless the history holds everything.

Shapes: P portrait features · B baskets.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, MONTH_DAYS, SECOND_US
from recommender.events.tail import Recent
from recommender.matching.examples import MAX_BASKETS, PackedBaskets

WINDOWS = (7, 30, 90, 180, 365)
"""As `recommender.features.purchases.WINDOWS`, which serving does not import."""
COUNTED = {
    **dict.fromkeys(("view", "click", "cart", "search", "favourite"), "interest"),
    **dict.fromkeys(("share", "review", "like", "comment", "follow"), "social"),
}
"""Kind -> part of the portrait that counts it, as `recommender.features.people`."""


def ages_days(times_us_B: NDArray[np.int64], at_us: int) -> NDArray[np.float64]:
    """Days from baskets to a moment. Both count in whole seconds, rounded down, as in `features.source`."""
    return np.asarray((at_us // SECOND_US - times_us_B // SECOND_US) / DAY_S, dtype=np.float64)


def covers(history: PackedBaskets, days: float, at_us: int) -> bool:
    """Whether a history holds every basket of the last days before a moment."""
    return len(history.times_us_B) < MAX_BASKETS or bool(ages_days(history.times_us_B[:1], at_us)[0] > days)


def portrait_at(
    portrait_P: NDArray[np.float32],
    names: Sequence[str],
    history: PackedBaskets,
    new: Sequence[Recent],
    *,
    feature_time_us: int,
    at_us: int,
    minor_units: int,
) -> NDArray[np.float32]:
    """The portrait at a moment.

    Args:
        portrait_P: as it was at `feature_time_us`.
        names: of its features.
        history: with the baskets of the new events.
        new: the events after the row.
        feature_time_us: moment of the row, microseconds since 1970, UTC.
        at_us: the moment.
        minor_units: whole minor units in one unit of the currency.
    """
    places = {name: place for place, name in enumerate(names)}
    old = {name: float(portrait_P[place]) for name, place in places.items()}
    passed_days = (at_us // SECOND_US - feature_time_us // SECOND_US) / DAY_S
    found = {
        **_of_baskets(history, at_us, old, passed_days, new, minor_units),
        **_of_kinds(old, passed_days, new, at_us),
    }
    changed_P = portrait_P.copy()
    for name, value in found.items():
        if name in places:
            changed_P[places[name]] = value
    return changed_P


def known_at_once(
    names: Sequence[str], history: PackedBaskets, at_us: int, *, moves_with_time: bool = True
) -> set[str]:
    """The features that a fold at a moment brings up to date.

    Args:
        names: of the portrait's features.
        history: with the baskets of the events.
        at_us: the moment, microseconds since 1970, UTC.
        moves_with_time: with those that change though nothing happens.
    """
    totals = {f"{part}__{kind}s" for kind, part in COUNTED.items()}.intersection(names)
    if not moves_with_time:
        return totals
    old = dict.fromkeys(names, np.nan)
    found = {**_of_baskets(history, at_us, old, 0.0, (), 1), **_of_kinds(old, 0.0, (), at_us)}
    return set(found).intersection(names)


def _of_baskets(
    history: PackedBaskets,
    at_us: int,
    old: Mapping[str, float],
    passed_days: float,
    new: Sequence[Recent],
    minor_units: int,
) -> dict[str, float]:
    if not len(history.times_us_B):
        return {}
    age_B, lines_B = ages_days(history.times_us_B, at_us), history.lines_B.astype(np.int64)
    cents_B = np.rint(history.spend_B.astype(np.float64) * minor_units).astype(np.int64)
    found = {"behaviour__recency_days": float(age_B.min())}
    for days in WINDOWS:
        if covers(history, days, at_us):
            recent_B = age_B <= days
            found[f"behaviour__baskets_{days}d"] = float(recent_B.sum())
            found[f"behaviour__lines_{days}d"] = float(lines_B[recent_B].sum())
            found[f"consumption__spend_{days}d"] = float(cents_B[recent_B].sum() / minor_units)
    for short, long in ((30, 90), (90, 180)):
        if covers(history, long, at_us):
            in_long = max(int((age_B <= long).sum()), 1)
            found[f"behaviour__trend_{short}_of_{long}"] = float((age_B <= short).sum() / in_long)
    if len(history.times_us_B) < MAX_BASKETS:
        found |= _of_all(age_B, lines_B, cents_B, minor_units)
    else:
        found["behaviour__tenure_days"] = old.get("behaviour__tenure_days", np.nan) + passed_days
    return found


def _of_all(
    age_B: NDArray[np.float64], lines_B: NDArray[np.int64], cents_B: NDArray[np.int64], minor_units: int
) -> dict[str, float]:
    """Features of the whole past, where the history holds it."""
    count, tenure, cents, lines = len(age_B), float(age_B.max()), int(cents_B.sum()), int(lines_B.sum())
    months = max(tenure, MONTH_DAYS) / MONTH_DAYS
    return {
        "behaviour__tenure_days": tenure,
        "behaviour__baskets_per_month": count * MONTH_DAYS / max(tenure, MONTH_DAYS),
        "behaviour__mean_gap_days": (tenure - float(age_B.min())) / max(count - 1, 1),
        "behaviour__active_weeks_share": len(np.unique(age_B // 7)) * 7.0 / max(tenure, 7.0),
        "consumption__spend_per_month": cents / minor_units / months,
        "consumption__average_basket": cents / minor_units / count,
        "consumption__largest_basket": int(cents_B.max()) / minor_units,
        "consumption__lines_per_basket": lines / count,
        "consumption__price_level": cents / minor_units / lines,
    }


def _of_kinds(old: Mapping[str, float], passed_days: float, new: Sequence[Recent], at_us: int) -> dict[str, float]:
    """Totals and recency of views, clicks and other kinds."""
    found: dict[str, float] = {}
    for kind, part in COUNTED.items():
        recency = f"{part}__{kind}_recency_days"
        if recency not in old:
            continue
        times_us = np.array([event.time_us for event in new if event.kind == kind], dtype=np.int64)
        ages = ages_days(times_us, at_us).tolist()
        found[f"{part}__{kind}s"] = old[f"{part}__{kind}s"] + len(ages)
        before = old[recency] + passed_days
        found[recency] = min([*ages, *([] if np.isnan(before) else [before])], default=np.nan)
    return found
