"""Chooses the campaigns that are candidates for one user at one moment, and says at which stage each other one dropped.

Serving, bulk scoring and explanations all choose here.

Shapes: N candidates · C campaigns that are considered.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import UserAffinity
from recommender.matching.catalogue import Catalogue

Dropped = Literal["unknown", "not_started", "ended", "excluded", "taken_up", "hidden"]
"""Why a campaign is no candidate, in the order in which it is checked. `excluded`: the request excludes it. `taken_up`:
the user has taken it up already, and repeats are not allowed. `hidden`: the user has hidden or disliked it."""
NOTHING: Mapping[str, Dropped] = MappingProxyType({})
"""No campaign is out by what the user did."""


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
    user: UserAffinity | None = None,
    out: Mapping[str, Dropped] = NOTHING,
    repeats: bool = False,
) -> Candidates:
    """Choose the candidates at a moment (microseconds since 1970, UTC).

    Args:
        catalogue: items and campaigns.
        moment_us: the time of the decision.
        named: only these campaigns may be candidates. None: every live one.
        excluded: identifiers that may not be candidates. Unknown ones exclude nothing.
        user: what the user has taken up or hidden is no candidate. None: the user is unknown.
        out: identifiers that are no candidates because of what the user did and `user` does not know: `taken_up`, or
            `hidden` or disliked.
        repeats: what the user has taken up may be a candidate again.
    """
    if named is None and not excluded and not out and (user is None or not user.has_taken_up):
        return Candidates(catalogue.live_popular(moment_us), {})
    considered, unknown = (
        (catalogue.live(moment_us), []) if named is None else catalogue.rows(list(dict.fromkeys(named)))
    )
    # Unknown ones first, then the others as they were named: the order that answers have always had.
    dropped: dict[str, Dropped] = dict.fromkeys(unknown, "unknown")
    taken_up_C = hidden_C = np.zeros(len(considered), dtype=bool)
    if user is not None:
        codes_C = catalogue.campaign_codes_C[considered]
        hidden_C = user.hidden(codes_C)
        taken_up_C = taken_up_C if repeats else user.taken_up(codes_C)
    kept = []
    for row, taken_up, is_hidden in zip(considered.tolist(), taken_up_C.tolist(), hidden_C.tolist(), strict=True):
        known = "taken_up" if taken_up else "hidden" if is_hidden else out.get(catalogue.campaign_ids[row])
        why = _dropped(catalogue, row, moment_us, excluded) or (None if known == "taken_up" and repeats else known)
        if why is None:
            kept.append(row)
        else:
            dropped[catalogue.campaign_ids[row]] = why
    return Candidates(catalogue.popular(np.array(kept, dtype=np.int32)), dropped)


def _dropped(catalogue: Catalogue, row: int, moment_us: int, excluded: Collection[str]) -> Dropped | None:
    if moment_us < catalogue.campaign_starts_C[row]:
        return "not_started"
    if moment_us >= catalogue.campaign_ends_C[row]:
        return "ended"
    if catalogue.campaign_ids[row] in excluded:
        return "excluded"
    return None
