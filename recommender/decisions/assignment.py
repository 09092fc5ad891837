"""Who gets which version: a sticky, salted hash of the user (Kohavi, Tang & Xu, *Trustworthy Online Controlled Experiments*, ch. 4).

The same user, salt and share give the same variant in every process and on every day; nothing is stored. Growing the canary's
share only moves users from champion to canary, never back, because a user's point on [0, 1) stays where it is.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

Variant = Literal["champion", "canary"]
_POINTS = 2**64


@dataclass(frozen=True)
class Assignment:
    """The variant of one user, and the probability with which a user gets it."""

    variant: Variant
    propensity: float


def point(user_id: str, salt: str) -> float:
    """The user's place on [0, 1): uniform over users, independent between salts."""
    value = blake2b(user_id.encode(), digest_size=8, key=blake2b(salt.encode(), digest_size=16).digest()).digest()
    return int.from_bytes(value, "big") / _POINTS


def assign(user_id: str, *, salt: str, canary_share: float) -> Assignment:
    """The variant of `user_id`; `canary_share` in [0, 1] of the users get the canary, 0 where there is none.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= canary_share <= 1:
        raise ValueError(f"a share of users lies in [0, 1], not {canary_share}")
    if point(user_id, salt) < canary_share:
        return Assignment("canary", canary_share)
    return Assignment("champion", 1.0 - canary_share)
