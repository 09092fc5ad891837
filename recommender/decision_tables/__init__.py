"""Tables of logged decisions for analyses: compaction of shipped segments into Parquet, and the one reader of both."""

from recommender.decision_tables.compaction import Compacted, compact
from recommender.decision_tables.reader import open_decisions, read_decisions, read_exposures
from recommender.decision_tables.removal import forget, records_of

__all__ = ["Compacted", "compact", "forget", "open_decisions", "read_decisions", "read_exposures", "records_of"]
