"""Item sequences for next-item rankers, ranks among all items, and vectors of texts."""

from recommender.sequences.sequences import Items, LeaveOneOut, Sequences

__all__ = ["Items", "LeaveOneOut", "Sequences"]
