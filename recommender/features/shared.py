"""What the users of a shop have in common: whatever a user's features need that is not in the user's own rows.

Computed once from all tables by grouped aggregates. It holds no row of a user, so it is small, and it can be pickled
and sent to every process that computes users (`features.buckets`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recommender.datasets.tables import Tables
from recommender.features import campaign_habits, looks, pairs, people, vectors
from recommender.features.look_weights import LookWeights
from recommender.features.source import Shop, Source
from recommender.features.value_names import ValueNames


@dataclass(frozen=True, eq=False)
class Shared:
    """Everything but rows of users that `users.rows_of_users` reads."""

    tables: Tables
    """Its manifest is read. The files need not be there."""
    as_of: datetime
    shop: Shop
    look_weights: LookWeights
    looked: bool
    """Whether any user looked at an item before `as_of`."""
    kinds: tuple[str, ...]
    """Kinds of events that portraits count."""
    attributes: Mapping[str, people.Attribute]
    """How the attributes of users become numbers."""
    segments: tuple[str, ...]
    """Columns of `users` that are segments of pairs."""
    types: Mapping[str, tuple[str, ...]]
    """Campaign type -> the features about it."""
    departments: Mapping[str, int]
    """Feature -> index of the department that it is about."""
    taxonomy_version: str
    """Name of the ids to which packed vectors refer."""


def shared_of(
    source: Source, named: ValueNames, look_weights: LookWeights | None = None, *, taxonomy_version: str = ""
) -> Shared:
    """Compute what all users of a source have in common.

    Args:
        source: all tables.
        named: names the features that stand for values, in the order of the portrait.
        look_weights: what looks count. None: the values by hand.
        taxonomy_version: needed where vectors are packed.
    """
    look_weights = look_weights or LookWeights.by_hand()
    users = source.table("users").to_pyarrow()
    _ = source.tables.manifest  # read here, so that it travels along
    return Shared(
        tables=source.tables,
        as_of=source.as_of,
        shop=Shop(source.taxonomy, source.campaigns, source.campaign_items.to_pyarrow()),
        look_weights=look_weights,
        looked=looks.has_looks(source, look_weights),
        kinds=people.counted_kinds(source),
        types=campaign_habits.of_types(source, named),
        attributes=people.attributes(users, named),
        segments=pairs.segments_of(users),
        departments=vectors.department_features(source.taxonomy, named),
        taxonomy_version=taxonomy_version,
    )
