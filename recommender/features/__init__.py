"""Tables -> features, as Ibis expressions that know nothing later than each decision. DuckDB here, Spark on a cluster."""

from recommender.features.build import build

__all__ = ["build"]
