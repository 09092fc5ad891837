"""Daily partitions of the log of events: what counts of each day, and what came too late to count by itself."""

from recommender.days.fold import days_identity, ingest_in_days
from recommender.days.proposal import promote
from recommender.days.store import DayStore

__all__ = ["DayStore", "days_identity", "ingest_in_days", "promote"]
