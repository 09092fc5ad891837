"""Names under which the online stores keep users' tails. PostgreSQL's are in `recommender.events.postgres`."""

TAIL_FIELD = b"_events"
"""Field of the user's Redis hash that holds the tail. Feast's own fields have four bytes, or begin with `_ts`."""
TAILS_TABLE = "tails"
"""Table (user_id, body) of the tails in SQLite's file."""
