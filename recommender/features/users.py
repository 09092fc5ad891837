"""Computes the rows of some users from their own rows in the tables and from what all users have in common.

A user's rows depend on nothing else: not on which other users are computed beside it, nor on how many.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recommender.features import decisions, facts, pairs
from recommender.features.packing import Packer
from recommender.features.portrait import portrait
from recommender.features.shared import Shared
from recommender.features.source import Source

BASKETS = "behaviour__baskets_per_month"
"""The feature by which pairs get their segment `activity`, and by which newcomers are expected to act."""

PACKED_FILE = "packed.arrow"


@dataclass(frozen=True, eq=False)
class UserRows:
    """What was computed of some users."""

    users: pa.Table
    """Rows of users.parquet, sorted by user and time. The packed vectors are mapped from a file."""
    pairs: pa.Table
    """Rows of pairs.parquet without `activity`, sorted by decision, campaign and user."""
    facts: pa.Table | None
    """Rows of facts.parquet, sorted by user. None: there are no facts."""


def rows_of_users(
    source: Source,
    shared: Shared,
    scratch: Path,
    *,
    numbers: pa.Table | None = None,
    taken: pa.Table | None = None,
) -> UserRows:
    """Compute all rows of the users that `source` has.

    Args:
        source: at least one user, and all rows of these users in `users`, `events`, `targets` and `participations`.
        shared: what `shared_of` returned for the tables of all users.
        scratch: folder for the packed vectors. It must outlive the rows, and no other call may use it.
        numbers: what `facts.numbers_of_shop` returned for all users, or its rows of these. None: no facts.
        taken: user_id and event_timestamp of rows of users that are there already, and are left out. None: none are.
    """
    return UserRows(
        users=_user_table(source, shared, scratch, taken),
        pairs=pairs.pairs(source, shared.segments),
        facts=None if numbers is None else facts.facts_of_users(source, shared.as_of, numbers),
    )


def _user_table(source: Source, shared: Shared, scratch: Path, taken: pa.Table | None) -> pa.Table:
    """Build one row for each decision: the user's portrait and packed vectors as known then."""
    decided = decisions.without(decisions.decisions(source), taken)
    packer = Packer(
        taxonomy_version=shared.taxonomy_version,
        minor_units=source.minor_units,
        file=scratch / PACKED_FILE,
    )
    known = portrait(source, decided, shared, packer=packer)
    packed = packer.table()
    arrays: dict[str, Any] = {"user_id": decided["user_id"], "event_timestamp": decided["decided_at"]}
    arrays |= {name: pa.array(values_D) for name, values_D in known.columns.items()}
    arrays |= {name: packed[name] for name in ("affinity", "history")}
    return pa.table(arrays)
