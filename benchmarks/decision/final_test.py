"""The final test of the ranker that validation chose, once with the horizon and once as it was without. Needs a run.

The ranker is the one that the group `horizon` chose: nothing is chosen here. Every reading is a line of
reports/bench/readings.jsonl. Gains are paired, with intervals over users.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.decision.horizon import SEED, origin, quality, whole_window, with_goal
from benchmarks.decision.rows import Row
from benchmarks.measured_on import note_reading
from recommender.datasets.periods import microseconds
from recommender.engine.context import FitContext
from recommender.features.training_set import TrainingSet
from recommender.models.campaign import ranker_class
from recommender.settings import load_settings
from recommender.storage.home import Home
from recommender.storage.manifest import SHOWN_DIGITS
from recommender.storage.published import published_training_set
from recommender.training.train import fit_at

CHOSEN = "logistic"
"""By the mean log loss of both validation periods."""
GOALS = {"auc": 0.856, "ap": 0.570, "log_loss": 0.260}


def rows(say: Callable[[str], None]) -> list[Row]:
    """Figures of all pairs and of closed windows, beside those of the same ranker without a horizon."""
    settings = load_settings(Path("recommender.toml"))
    data = TrainingSet.open(published_training_set(Home.of(settings)))
    zone = ZoneInfo(data.time_zone)
    at = origin(data, "final test", datetime(2017, 10, 1, tzinfo=zone), data.log_end)
    say(f"final test: {CHOSEN}, {int(at.mask_N.sum()):,} pairs")
    cls = ranker_class(CHOSEN)
    examples = data.examples(at.mask_N).read_at(microseconds(at.read_at))
    scores = {
        "horizon": fit_at(cls, data, at.fitted_at, cls.Config(), FitContext(seed=SEED)).score(examples).redeem_N,
        "whole window": whole_window(data, at, CHOSEN).score(examples).redeem_N,
    }
    note_reading(f"campaigns {data.data_hash[:SHOWN_DIGITS]}", CHOSEN, "pairs decided before 2017-10-01", SEED)
    return [with_goal(row, GOALS) for row in quality(at, CHOSEN, scores)]
