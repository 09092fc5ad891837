"""Training: fit rankers at every boundary, resumable and with their lineage, and search hyperparameters."""

from recommender.training.train import TrainResult, train

__all__ = ["TrainResult", "train"]
