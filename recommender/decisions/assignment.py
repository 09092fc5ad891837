"""Assigns users to variants by a sticky, salted hash of the user.

The same user, salt and share give the same variant in every process and on every day, and nothing is stored. A
growing canary share moves users from champion to canary and never back, because a user's point on [0, 1) stays where
it is (Kohavi, Tang & Xu, *Trustworthy Online Controlled Experiments*, 2020, ch. 4).
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

Variant = Literal["champion", "canary"]
_POINTS = 2**64
"""Number of points on [0, 1): the hash has 64 bits."""


@dataclass(frozen=True)
class Assignment:
    """The variant of one user, and the probability (propensity) with which a user gets that variant."""

    variant: Variant
    propensity: float


def point(user_id: str, salt: str) -> float:
    """The user's point on [0, 1): uniform over users, independent between salts."""
    # A salt of any length becomes a key of 16 bytes; blake2b takes at most 64.
    value = blake2b(user_id.encode(), digest_size=8, key=blake2b(salt.encode(), digest_size=16).digest()).digest()
    return int.from_bytes(value, "big") / _POINTS


def assign(user_id: str, *, salt: str, canary_share: float) -> Assignment:
    """Assign `user_id` to a variant: `canary_share` of the users get the canary (0 without a canary).

    Raises:
        ValueError: The share is outside [0, 1].
    """
    if not 0 <= canary_share <= 1:
        raise ValueError(f"canary_share must be in [0, 1] (got {canary_share})")
    if point(user_id, salt) < canary_share:
        return Assignment("canary", canary_share)
    return Assignment("champion", 1.0 - canary_share)
