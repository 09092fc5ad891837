"""What the last build knew that still holds: purchase lines, demand for campaigns' items, and what users paid for them.

`last_build` finds it. `demand` and `pairs` take what they need, compute the rest, and put it all down for the next one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPENDS = pa.schema(
    {
        "user_id": pa.string(),
        "campaign_id": pa.string(),
        "decided_at": pa.timestamp("us", tz="UTC"),
        "ends_at": pa.timestamp("us", tz="UTC"),
        "items": pa.string(),
        "window_cents": pa.int64(),
        "before_cents": pa.int64(),
        "known_days": pa.float64(),
    }
)
"""What a pair's spend depends on beside the user's purchases (`items`: `name_of` the campaign's items), and the spend,
see `pairs`."""


@dataclass(eq=False)
class Known:
    """What the last build knew and what this one finds, all of one log."""

    lines: pa.Table
    """All purchase lines, see `kept_lines.together`."""
    demand: dict[str, dict[str, int]] = field(default_factory=dict)
    """Demand by the campaign's moment and items (`name_of`). Nothing that happened in its days has changed since."""
    spends: pa.Table = field(default_factory=SPENDS.empty_table)
    """Spends of pairs before whose end no event of the user has changed since: `SPENDS`."""
    new_demand: dict[str, dict[str, int]] = field(default_factory=dict)
    """Demand of this build's campaigns."""
    new_spends: pa.Table = field(default_factory=SPENDS.empty_table)
    """Spends of this build's pairs."""


def still_paid(spends: pa.Table, changed: pa.Table) -> pa.Table:
    """Spends of the pairs before whose end nothing of the user changed. `changed`: user_id and at_us of events.

    A user's first purchase may change later than that. `known_days` is then below the least that `pairs` counts, as it
    was before.
    """
    first = changed.group_by("user_id").aggregate([("at_us", "min")])
    row = pc.index_in(spends["user_id"], value_set=first["user_id"].combine_chunks())
    from_us = pc.fill_null(first["at_us_min"].take(row.combine_chunks()), np.iinfo(np.int64).max)
    return spends.filter(pc.less_equal(spends["ends_at"].cast(pa.int64()), from_us))


def name_of(parts: Iterable[str]) -> str:
    """A name for texts in their order."""
    listed = list(parts)
    # The lengths come first, so that no two lists of texts look alike when they are joined.
    return hashlib.sha256("\n".join([*map(str, map(len, listed)), *listed]).encode()).hexdigest()
