"""The baskets of looks that each decision's user has behind the packed history (`recommender.matching.look_baskets`).

A day's basket is made once for all decisions after that day. A decision in the middle of a day has one more, of the
looks before it. So cost and memory follow looks and decisions, not their product.

Shapes: D decisions · R looks of a part's users · G days on which a user looked.
"""

from dataclasses import dataclass
from typing import Self

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US, SECOND_US
from recommender.features.as_of import Ints, last_before, ranges
from recommender.features.bought import Decisions, Part, microseconds_of, parts
from recommender.features.look_events import item_looks, search_looks
from recommender.features.look_weights import LookWeights
from recommender.features.source import Source
from recommender.matching.look_baskets import LINE, MAX_LOOK_BASKETS, LookBaskets, counted, strongest
from recommender.matching.look_rules import KINDS, LookRules
from recommender.matching.ragged import offsets_of
from recommender.matching.single_looks import ITEM, SINGLE

NONE = -1
"""In place of a basket of the decision's own day."""


@dataclass(frozen=True, eq=False)
class LookDays:
    """Baskets of looks, and which of them each decision knows."""

    time_s_B: Ints
    line_offsets: Ints
    """[B + 1]: basket b has the lines line_offsets[b] to line_offsets[b + 1], excluded."""
    lines_T: NDArray[np.void]
    """Of the structure `look_baskets.LINE`."""
    first_D: Ints
    end_D: Ints
    """A decision knows the baskets first_D to end_D, excluded, whole."""
    own_D: Ints
    """The basket of the looks before the decision on its own day, `NONE` if all looks of that day are known."""

    @classmethod
    def of(cls, source: Source, decisions: Decisions, weights: LookWeights) -> Self:
        """Make the baskets of the users of some decisions from what they looked at strictly before."""
        made, num_baskets = [cls._nothing(0)], 0
        rows = _rows(source, decisions, weights)
        for part in parts(rows, len(decisions.user_ids)):
            own = decisions.of_users(part.first_user, part.end_user)
            user_D, moment_us_D = decisions.user_D[own] - part.first_user, decisions.moment_us_D[own]
            found = cls._of_part(part, user_D, moment_us_D, weights.rules)
            made.append(found._after(num_baskets))
            num_baskets += len(found.time_s_B)
        return cls(
            time_s_B=np.concatenate([one.time_s_B for one in made]),
            line_offsets=offsets_of(np.concatenate([np.diff(one.line_offsets) for one in made])),
            lines_T=np.concatenate([one.lines_T for one in made]),
            first_D=np.concatenate([one.first_D for one in made]),
            end_D=np.concatenate([one.end_D for one in made]),
            own_D=np.concatenate([one.own_D for one in made]),
        )

    @classmethod
    def _nothing(cls, num_decisions: int) -> Self:
        none, zeros_D = np.zeros(0, dtype=np.int64), np.zeros(num_decisions, dtype=np.int64)
        return cls(none, offsets_of(none), np.zeros(0, dtype=LINE), zeros_D, zeros_D, zeros_D + NONE)

    @classmethod
    def _of_part(cls, part: Part, user_D: Ints, moment_us_D: Ints, rules: LookRules) -> Self:
        single_R = _structured(part.rows)
        lines_R, places = counted(single_R, rules)
        if not len(lines_R):
            return cls._nothing(len(user_D))
        user_R = part.rows["user"].to_numpy().astype(np.int64)[places]
        time_us_R = microseconds_of(part.rows["event_time"])[places]
        starts_G = np.flatnonzero((np.diff(user_R, prepend=-1) != 0) | (np.diff(time_us_R // DAY_US, prepend=-1) != 0))
        ends_G = np.append(starts_G[1:], len(user_R))
        day_R = np.repeat(np.arange(len(starts_G)), ends_G - starts_G)
        last_D = last_before(user_R, time_us_R, user_D, moment_us_D)
        looked_D = last_D >= 0
        day_D = day_R[np.maximum(last_D, 0)]
        within_D = looked_D & (last_D + 1 < ends_G[day_D])
        # Baskets of whole days, and behind them those of the decisions that end one.
        row_r, bounds = ranges(starts_G[day_D[within_D]], last_D[within_D] + 1)
        row_r = np.concatenate([np.arange(len(user_R)), row_r])
        basket_r = np.concatenate([day_R, len(starts_G) + np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))])
        kept_r = strongest(basket_r, lines_R[row_r], rules)
        num_baskets = len(starts_G) + len(bounds) - 1
        time_s_B = np.zeros(num_baskets, dtype=np.int64)
        np.maximum.at(time_s_B, basket_r, time_us_R[row_r] // SECOND_US)
        own_D = np.full(len(user_D), NONE)
        own_D[within_D] = np.arange(len(starts_G), num_baskets)
        end_D = np.where(looked_D, day_D + ~within_D, 0)
        first_of_user_D = day_R[np.minimum(np.searchsorted(user_R, user_D), len(user_R) - 1)]
        first_D = np.maximum(np.where(looked_D, first_of_user_D, 0), end_D - MAX_LOOK_BASKETS + within_D)
        return cls(
            time_s_B=time_s_B,
            line_offsets=offsets_of(np.bincount(basket_r[kept_r], minlength=num_baskets)),
            lines_T=lines_R[row_r[kept_r]],
            first_D=first_D,
            end_D=end_D,
            own_D=own_D,
        )

    def _after(self, baskets: int) -> Self:
        """The same behind so many other baskets."""
        own_D = np.where(self.own_D == NONE, NONE, self.own_D + baskets)
        return type(self)(
            self.time_s_B, self.line_offsets, self.lines_T, self.first_D + baskets, self.end_D + baskets, own_D
        )

    def baskets(self, decision: int) -> LookBaskets:
        """What one decision's user looked at before it."""
        known = np.arange(self.first_D[decision], self.end_D[decision])
        if self.own_D[decision] != NONE:
            known = np.append(known, self.own_D[decision])
        place_T, bounds = ranges(self.line_offsets[known], self.line_offsets[known + 1])
        return LookBaskets(self.time_s_B[known], np.diff(bounds), self.lines_T[place_T])

    def behind(self, histories: list[bytes], first: int) -> list[bytes]:
        """Put the baskets behind packed histories, those of the decisions from `first` on."""
        return [history + self.baskets(first + place).pack() for place, history in enumerate(histories)]


def _rows(source: Source, decisions: Decisions, weights: LookWeights) -> ir.Table:
    """The looks of the decisions' users: user, event_time and the columns of `SINGLE`, sorted by user and time."""
    users, items = decisions.numbered(), source.taxonomy.table().select(["item_id", "item_row"])
    looks = item_looks(source, weights.rules, weights.texts).inner_join(ibis.memtable(items), "item_id")
    parts_of = [looks.mutate(axis=ibis.literal(ITEM), value=looks.item_row)]
    searched = search_looks(source, weights.searches)
    if searched is not None:
        parts_of.append(searched)
    columns = ("user_id", "event_time", "kind", "axis", "value", "strength", "time_s")
    types = {"axis": "int64", "value": "int64", "strength": "int64", "time_s": "int64"}
    rows = ibis.union(*(part.filter(part.strength > 0).select(*columns).cast(types) for part in parts_of))
    return rows.inner_join(users, "user_id").drop("user_id").order_by("user", "event_time")


def _structured(rows: pa.Table) -> NDArray[np.void]:
    out = np.zeros(len(rows), dtype=SINGLE)
    for name in ("axis", "value", "strength", "time_s"):
        out[name] = rows[name].to_numpy()
    out["kind"] = pc.index_in(rows["kind"], value_set=pa.array(KINDS)).to_numpy()
    return out
