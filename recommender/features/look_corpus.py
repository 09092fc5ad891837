"""Baskets of looks as arrays of a training set: those of its pairs' users, and those of the corpus.

The corpus takes them from the rows of users at decisions. So it knows the looks of users who were targeted, on the last
days before each of their decisions.

Shapes: U users of the corpus · B baskets · T lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.periods import microseconds
from recommender.datasets.time_units import DAY_S, DAY_US, SECOND_US
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.look_baskets import LookBaskets, LookHistories
from recommender.matching.packed_history import unpack_history, unpack_looks

PREFIX = "looks."
"""Begins the names of all arrays of looks. A training set of a shop without looks has none."""
_TIMES = f"{PREFIX}times_us_B"
_AGES = "age_days_B"

Arrays = dict[str, NDArray[Any]]


def arrays_of(looks: LookHistories | None) -> Arrays:
    """The arrays of looks under their names in a file."""
    if looks is None:
        return {}
    return {f"{PREFIX}{field.name}": np.ascontiguousarray(getattr(looks, field.name)) for field in fields(looks)}


def looks_of(arrays: Mapping[str, NDArray[Any]]) -> LookHistories | None:
    """Read what `arrays_of` returned. None: there are no looks."""
    own = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    return LookHistories(**own) if own else None


def corpus_looks(shoppers: Sequence[Shopper], user_ids: Sequence[str], catalogue: Catalogue) -> Arrays:
    """The baskets of the corpus's users, with the times of their last looks. Empty where the shop has no looks.

    Args:
        shoppers: users as they were at decisions. Of several, the latest knows most of a day.
        user_ids: the users of the corpus, in its order.
        catalogue: the items, and what looks count.

    Raises:
        FeatureStoreError: a user's vectors are damaged.
    """
    if catalogue.look_rules is None:
        return {}
    days_of: dict[str, dict[int, tuple[int, NDArray[np.void]]]] = {user_id: {} for user_id in user_ids}
    for shopper in sorted(shoppers, key=lambda one: one.feature_time_us):
        days = days_of.get(shopper.user_id)
        if days is not None:
            looks = unpack_looks(shopper.history, unpack_history(shopper.history, catalogue.numbering))
            of_basket = np.split(looks.lines_T, np.cumsum(looks.lines_B)[:-1])
            for time_s, lines_T in zip(looks.time_s_B.tolist(), of_basket, strict=False):
                days[time_s // DAY_S] = time_s, lines_T
    baskets_U = [_together([days[day] for day in sorted(days)]) for days in days_of.values()]
    moments_us_U = np.zeros(len(user_ids), dtype=np.int64)
    arrays = arrays_of(LookHistories.of(baskets_U, moments_us_U, catalogue.numbering, catalogue.look_rules))
    del arrays[f"{PREFIX}{_AGES}"]
    return {**arrays, _TIMES: np.concatenate([moments_us_U[:0], *(one.time_s_B for one in baskets_U)]) * SECOND_US}


def _together(days: Sequence[tuple[int, NDArray[np.void]]]) -> LookBaskets:
    none = LookBaskets.none()
    return LookBaskets(
        np.array([time_s for time_s, _ in days], dtype=np.int64),
        np.array([len(lines_T) for _, lines_T in days], dtype=np.int64),
        np.concatenate([none.lines_T, *(lines_T for _, lines_T in days)]),
    )


def corpus_looks_before(
    arrays: Mapping[str, NDArray[Any]], boundary: datetime, users: NDArray[np.int64]
) -> LookHistories | None:
    """Cut `corpus_looks` at a boundary, for some users of the corpus. None: there are no looks."""
    if _TIMES not in arrays:
        return None
    boundary_us, times_us_B = microseconds(boundary), arrays[_TIMES]
    ages_B = ((boundary_us - times_us_B) / DAY_US).astype(np.float32)
    whole = looks_of({name: array for name, array in arrays.items() if name != _TIMES} | {f"{PREFIX}{_AGES}": ages_B})
    return None if whole is None else whole.known(times_us_B < boundary_us).take(users)
