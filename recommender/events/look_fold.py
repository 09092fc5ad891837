"""Looks that just came, folded into a user's row by the rules by which the row was built.

A search counts at once if its words alone say what it means. One that the text encoder would match, and a review
without a rating, wait for the next materialisation.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import SECOND_US
from recommender.events.tail import Recent
from recommender.matching import single_looks
from recommender.matching.affinity import UserAffinity
from recommender.matching.catalogue import Catalogue
from recommender.matching.look_rules import DWELT, ITEM_KINDS, KINDS, LOOK_UNIT, STRENGTH_UNIT, LookRules
from recommender.matching.looks import LOOKED, Looks
from recommender.matching.single_looks import ITEM, SINGLE


def new_looks(events: Sequence[Recent], names: Sequence[str], catalogue: Catalogue) -> NDArray[np.void] | None:
    """The looks among events, of the structure `single_looks.SINGLE`. None: the user's row knows no looks.

    `names`: of the row's portrait.
    """
    rules = catalogue.look_rules
    return None if rules is None or LOOKED not in names else _singles(events, rules, catalogue)


def with_looks(
    user: UserAffinity,
    portrait_P: NDArray[np.float32],
    names: Sequence[str],
    added_R: NDArray[np.void] | None,
    catalogue: Catalogue,
    at_us: int,
) -> tuple[UserAffinity, NDArray[np.float32]]:
    """The user and the portrait with what the user looked at up to a moment (microseconds since 1970, UTC).

    A user whose row does not hold the looks one by one, because they are too many, keeps their sums as they were: new
    looks are added, and old ones are not forgotten until the next materialisation. `added_R`: see `new_looks`.
    """
    rules = catalogue.look_rules
    if rules is None or added_R is None:
        return user, portrait_P
    known_R = single_looks.none() if user.looks.single is None else user.looks.single
    single_R = np.concatenate([known_R, added_R])
    sums = single_looks.weighed(single_R, at_us, rules, catalogue.item_axes_VA, catalogue.numbering.num_values)
    looks = Looks(*sums, single=single_R)
    if not user.looks.is_whole:
        looks = _plus(user.looks, looks)
    looked = float(looks.weights[0].astype(np.float64).sum()) / LOOK_UNIT
    portrait_P = np.where(np.array(names) == LOOKED, np.float32(looked), portrait_P)
    return replace(user, looks=looks), portrait_P


def waits(event: Recent, catalogue: Catalogue) -> bool:
    """Whether it is known only at the next materialisation what an event counts."""
    rules = catalogue.look_rules
    if rules is None:
        return True
    if event.kind == "search":
        return rules.encoder and event.query is not None and not catalogue.words.match(event.query).is_whole
    return event.kind == "review" and event.rating is None and rules.rating_mean is not None


def _singles(events: Sequence[Recent], rules: LookRules, catalogue: Catalogue) -> NDArray[np.void]:
    rows: list[tuple[int, int, int, int, int]] = []
    for event in events:
        if event.kind not in KINDS:
            continue
        kind, time_s = KINDS.index(event.kind), event.time_us // SECOND_US
        if event.kind == "search":
            found = catalogue.words.match(event.query or "")
            if found.is_whole or not rules.encoder:
                rows += [(kind, part.axis, part.value, part.strength, time_s) for part in found.parts]
            continue
        row = catalogue.item_rows.get(event.item_id or "")
        strength = _strength(event, rules)
        if row is not None and strength:
            rows.append((kind, ITEM, row, strength, time_s))
    return np.array(rows, dtype=SINGLE)


def _strength(event: Recent, rules: LookRules) -> int:
    if event.kind == "review":
        return 0 if event.rating is None else rules.rated(event.rating)
    if event.kind in DWELT and event.dwell_s is not None:
        return rules.dwelt(event.dwell_s)
    return STRENGTH_UNIT if event.kind in ITEM_KINDS else 0


def _plus(known: Looks, more: Looks) -> Looks:
    """Both sums together, on every axis."""
    values, weights = [], []
    for axis, (value_n, weight_n) in enumerate(zip(known.values, known.weights, strict=True)):
        both = np.concatenate([value_n, more.values[axis]])
        found, place_n = np.unique(both, return_inverse=True)
        sums = np.zeros(len(found), dtype=np.int64)
        np.add.at(sums, place_n, np.concatenate([weight_n, more.weights[axis]]).astype(np.int64))
        values.append(found.astype(np.int32))
        weights.append(np.minimum(sums, np.iinfo(np.uint32).max).astype(np.uint32))
    return Looks(tuple(values), tuple(weights))
