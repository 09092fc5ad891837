"""What a ranker sees: N pairs of user and campaign, from the training set or from one request, through one function.

Shapes: N pairs · F features · U distinct users among the pairs · B baskets in all · T basket lines in all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.catalogue import Catalogue


@dataclass(frozen=True, eq=False)
class Histories:
    """U users' last baskets, ragged, each user's oldest first. Lines of one basket have no order."""

    basket_offsets: NDArray[np.int64]
    """[U + 1]: user u has the baskets basket_offsets[u] … basket_offsets[u + 1]."""
    line_offsets: NDArray[np.int64]
    """[B + 1]: basket b has the lines line_offsets[b] … line_offsets[b + 1]."""
    items_T: NDArray[np.int32]
    """Row of the item in the catalogue; 0 is an unknown item."""
    age_days_B: NDArray[np.float32]
    """Days from the basket to the decision, > 0."""
    spend_B: NDArray[np.float32]
    """Money paid for the basket, currency units."""


@dataclass(frozen=True, eq=False)
class Examples:
    """N pairs, ready to be scored."""

    catalogue: Catalogue
    campaigns_N: NDArray[np.int32]
    """Row of the campaign in the catalogue."""
    users_N: NDArray[np.int32]
    """Row of the user in `histories`: pairs of one user share it."""
    features_NF: NDArray[np.float32]
    """Portrait of the user, features of the campaign, their affinity. NaN: the source does not say."""
    feature_names: tuple[str, ...]
    histories: Histories
