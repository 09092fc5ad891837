"""Generates seeded synthetic shops of any size whose true probabilities are known."""

from recommender.datasets.synthetic.generate import generate
from recommender.datasets.synthetic.world import World, from_settings

__all__ = ["World", "from_settings", "generate"]
