"""Measures how good rankers are on later data: metrics, intervals, slices and the offline verdict."""

from recommender.evaluation.document import Evaluation
from recommender.evaluation.evaluate import evaluate

__all__ = ["Evaluation", "evaluate"]
