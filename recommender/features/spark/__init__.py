"""Builds a feature set on Spark: the expressions of one machine for the whole shop, its functions on the executors.

Importing this package needs no Spark. `spark.engine` does.
"""

from dataclasses import dataclass

from recommender.datasets.places import Place
from recommender.settings import SparkSettings


@dataclass(frozen=True, kw_only=True)
class OnSpark:
    """How Spark builds."""

    settings: SparkSettings
    tables: Place
    """Where the executors find the files of the tables."""
    parts: Place
    """A new folder, in which executors write and the driver reads. It is deleted afterwards."""
