"""Rankers are fitted here: at every boundary, resumable, with their lineage."""

from recommender.training.train import TrainResult, train

__all__ = ["TrainResult", "train"]
