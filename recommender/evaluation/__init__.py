"""How good rankers are on what they have not seen: metrics, intervals, slices, the offline verdict."""

from recommender.evaluation.document import Evaluation
from recommender.evaluation.evaluate import evaluate

__all__ = ["Evaluation", "evaluate"]
