"""Computes features from canonical tables with Ibis expressions that read nothing later than each decision."""

from recommender.features.build import build, build_as_set

__all__ = ["build", "build_as_set"]
