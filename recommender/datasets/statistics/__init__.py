"""Statistics of canonical tables by day and by column: what validation compares one run with another by."""

from recommender.datasets.statistics.measure import measure
from recommender.datasets.statistics.measured import Statistics, read_statistics, write_statistics

__all__ = ["Statistics", "measure", "read_statistics", "write_statistics"]
