"""What is kept and for how long, and who is forgotten."""

from recommender.privacy.removal import Removed, remove
from recommender.privacy.retention import KINDS, Kept, Leftover, Limits, find, limits_of

__all__ = ["KINDS", "Kept", "Leftover", "Limits", "Removed", "find", "limits_of", "remove"]
