"""What serving knows of items and campaigns, in memory: names, taxonomy, windows, item vectors, features.

Written by the materialise step as one verified folder; read by the training set, the handler and the gateway.

Shapes: V items (row 0 is the unknown item) · C campaigns · A axes · G campaign features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items and campaigns of one data state. `version` is the identity of its content."""

    version: str
    item_ids: tuple[str, ...]
    item_names: tuple[str, ...]
    item_axes_VA: NDArray[np.int32]
    """Index of each item's value on each axis of `affinity.AXES`; 0: none."""
    axis_values: tuple[tuple[str, ...], ...]
    """A tuples: the values that the indices of an axis stand for; index 0 is ''."""
    item_popularity_V: NDArray[np.float32]
    """Purchases per 30 days over the last 90 days."""
    campaign_ids: tuple[str, ...]
    campaign_names: tuple[str, ...]
    campaign_kinds: tuple[str, ...]
    campaign_types: tuple[str, ...]
    campaign_starts_C: NDArray[np.int64]
    """Microseconds since 1970, UTC."""
    campaign_ends_C: NDArray[np.int64]
    """Exclusive."""
    campaign_item_offsets: NDArray[np.int64]
    """[C + 1] into `campaign_items`."""
    campaign_items: NDArray[np.int32]
    """Rows of each campaign's distinct items, ascending."""
    campaign_features_CG: NDArray[np.float32]
    campaign_feature_names: tuple[str, ...]
    campaign_popularity_C: NDArray[np.float32]
    """Participation rate expected of an unknown user, shrunk: the popular list is sorted by it."""
