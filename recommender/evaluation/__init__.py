"""How good rankers are, on what they have not seen: metrics, intervals, slices, periods."""

from recommender.evaluation.document import Evaluation
from recommender.evaluation.evaluate import evaluate
from recommender.evaluation.versions import Measured, evaluate_versions

__all__ = ["Evaluation", "Measured", "evaluate", "evaluate_versions"]
