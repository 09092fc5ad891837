"""Next-item rankers on a file of events: fit for use, search hyperparameters, benchmark."""

from recommender.training.next_items.benchmark import Benchmark
from recommender.training.next_items.final_fit import FitReport, fit_for_use
from recommender.training.next_items.fitting import TrainOn
from recommender.training.next_items.outputs import Outputs
from recommender.training.next_items.request import FitRequest
from recommender.training.next_items.tune import Found, tune_ranker

__all__ = ["Benchmark", "FitReport", "FitRequest", "Found", "Outputs", "TrainOn", "fit_for_use", "tune_ranker"]
