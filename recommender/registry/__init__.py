"""Bundles, trained candidates, and the registry of versions with champion and canary."""

from recommender.registry.registry import Registry

__all__ = ["Registry"]
