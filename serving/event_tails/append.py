"""An event on its way to its user's tail."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Append:
    """One event on its way to its user's tail."""

    user_id: str
    event_id: str
    line: bytes
    """As `recommender.events.tail.line_of` made it. Empty: the event does not count yet, and only its id is noted."""
    whole: bytes
    """The whole event as JSON, for the stream."""
    old: bytes = b""
    """The tail as it was read, where it is to be shortened."""
    kept: bytes = b""
    """What is kept of `old`. If the tail is another one by now, it is left as it is."""
