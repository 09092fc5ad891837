"""Item sequences that next-item rankers read, ranks among all items, and text vectors."""

from recommender.sequences.sequences import Items, LeaveOneOut, Sequences

__all__ = ["Items", "LeaveOneOut", "Sequences"]
