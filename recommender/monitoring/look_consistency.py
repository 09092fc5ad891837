"""Compares what users looked at by a row with folded events with what a rebuild at the same moment says."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recommender.events.look_fold import waits
from recommender.events.tail import Recent
from recommender.matching.affinity import AXES, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.look_baskets import LookBaskets
from recommender.matching.looks import LOOKED
from recommender.matching.packed_history import unpack_history, unpack_looks


def looks_apart(
    row: Shopper, online: Shopper, offline: Shopper, new: Sequence[Recent], catalogue: Catalogue
) -> Iterator[tuple[str, Any, Any]]:
    """The fields of looks in which the two disagree: name, online, offline.

    None for a user with an event whose meaning waits for the next materialisation. For one with too many looks to hold
    one by one only the baskets of looks are compared.

    Args:
        row: as the store holds it.
        online: as serving reads it, with its events folded in.
        offline: as it was built, at the same moment.
        new: the events that were folded in.
        catalogue: by which they were.
    """
    ours, theirs = (unpack_user(one.affinity, catalogue.numbering).looks for one in (online, offline))
    if any(waits(event, catalogue) for event in new):
        return
    if not _lacks_baskets(row, catalogue):
        for name, *both in zip(
            LookBaskets._fields, *(_baskets(one, catalogue) for one in (online, offline)), strict=True
        ):
            if not np.array_equal(both[0], both[1]):
                yield f"baskets of looks {name}", *both
    if not (ours.is_whole and theirs.is_whole):
        return
    for axis, name in enumerate(AXES):
        pairs = [
            dict(zip(looks.values[axis].tolist(), looks.weights[axis].tolist(), strict=True)) if looks.values else {}
            for looks in (ours, theirs)
        ]
        if pairs[0] != pairs[1]:
            yield f"{name} looked at", pairs[0], pairs[1]
    if LOOKED in online.portrait_names and LOOKED in offline.portrait_names:
        first, second = (one.portrait_P[one.portrait_names.index(LOOKED)] for one in (online, offline))
        if not np.array_equal(first, second, equal_nan=True):
            yield LOOKED, first, second


def _baskets(shopper: Shopper, catalogue: Catalogue) -> LookBaskets:
    return unpack_looks(shopper.history, unpack_history(shopper.history, catalogue.numbering))


def _lacks_baskets(row: Shopper, catalogue: Catalogue) -> bool:
    """Whether a row of a user who looked has no baskets of looks, as an older version wrote it."""
    looked = LOOKED in row.portrait_names and row.portrait_P[row.portrait_names.index(LOOKED)] > 0
    return bool(looked) and not len(_baskets(row, catalogue).time_s_B)
