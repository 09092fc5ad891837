"""Chooses the campaigns that are candidates for one user at one moment, and says at which stage each other one dropped.

Serving, bulk scoring and explanations all choose here.

Shapes: N candidates · C campaigns · k campaigns that the user has taken up.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import campaign_code
from recommender.matching.catalogue import Catalogue

Dropped = Literal["unknown", "not_started", "ended", "excluded", "taken_up"]
"""Why a campaign is no candidate, in the order in which it is checked. `excluded`: the request excludes it. `taken_up`:
the user has taken it up already, and repeats are not allowed."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The campaigns to rank for one user, and those that are out."""

    rows_N: NDArray[np.int32]
    """Rows in the catalogue, the most popular campaign first."""
    dropped: dict[str, Dropped]
    """By identifier: named campaigns that are no candidates or, where none were named, the live ones that are not."""


def candidates(
    catalogue: Catalogue,
    moment_us: int,
    *,
    named: Sequence[str] | None = None,
    excluded: Collection[str] = (),
    taken_up_k: NDArray[np.uint32] | None = None,
) -> Candidates:
    """Choose the candidates at a moment (microseconds since 1970, UTC).

    Args:
        catalogue: items and campaigns.
        moment_us: the time of the decision.
        named: only these campaigns may be candidates. None: every live one.
        excluded: identifiers that may not be candidates. Unknown ones exclude nothing.
        taken_up_k: codes (`affinity.campaign_code`) of the campaigns that the user has taken up. None: allow repeats.
    """
    considered, unknown = (
        (catalogue.live(moment_us), []) if named is None else catalogue.rows(list(dict.fromkeys(named)))
    )
    # Unknown ones first, then the others as they were named: the order that answers have always had.
    dropped: dict[str, Dropped] = dict.fromkeys(unknown, "unknown")
    kept = []
    for row in considered.tolist():
        why = _dropped(catalogue, row, moment_us, excluded, taken_up_k)
        if why is None:
            kept.append(row)
        else:
            dropped[catalogue.campaign_ids[row]] = why
    return Candidates(catalogue.popular(np.array(kept, dtype=np.int32)), dropped)


def is_taken_up(catalogue: Catalogue, rows_C: NDArray[np.int32], taken_up_k: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Mark the campaigns at `rows_C` that a user has taken up, bool [C]."""
    return np.isin(catalogue.campaign_codes_C[rows_C], taken_up_k)


def _dropped(
    catalogue: Catalogue,
    row: int,
    moment_us: int,
    excluded: Collection[str],
    taken_up_k: NDArray[np.uint32] | None,
) -> Dropped | None:
    if moment_us < catalogue.campaign_starts_C[row]:
        return "not_started"
    if moment_us >= catalogue.campaign_ends_C[row]:
        return "ended"
    if catalogue.campaign_ids[row] in excluded:
        return "excluded"
    if taken_up_k is not None and len(taken_up_k) and campaign_code(catalogue.campaign_ids[row]) in taken_up_k:
        return "taken_up"
    return None
