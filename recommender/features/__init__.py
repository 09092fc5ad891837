"""Computes features from canonical tables with Ibis expressions that read nothing later than each decision."""

from recommender.features.build import build
from recommender.features.build_as_set import build_as_set

__all__ = ["build", "build_as_set"]
