"""What an online store holds of one user: the row that a materialisation wrote, and the events since."""

from typing import NamedTuple


class Stored(NamedTuple):
    """One user's value and tail, read together."""

    message: bytes | None
    """Feast's serialised value, or None when the store does not know the user."""
    tail: bytes = b""
    """The events that came since (`recommender.events.tail`)."""
