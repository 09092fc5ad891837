"""What an online store holds of one user: the row that a materialisation wrote, and the events since."""

from typing import NamedTuple

TAIL_FIELD = b"_events"
"""Field of the user's Redis hash that holds the tail. Feast's own fields have four bytes, or begin with `_ts`."""
TAILS_TABLE = "tails"
"""Table (user_id, body) of the tails, where the store is a database."""


class Stored(NamedTuple):
    """One user's value and tail, read together."""

    message: bytes | None
    """Feast's serialised value, or None when the store does not know the user."""
    tail: bytes = b""
    """The events that came since (`recommender.events.tail`)."""
