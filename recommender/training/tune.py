"""Hyper-parameters are searched before the final test: fits at gate_from, judged by the log loss of the gate period.

With several folds the search rolls its origin: fits at that many moments before test_from, each judged by the campaigns that start
until the next one (Tashman, "Out-of-sample tests of forecasting accuracy", 2000); a trial's value is the mean over the folds.

The final test is never read here. Trials lie in one SQLite study, so a search that was stopped goes on where it was; its
result is a small JSON file that says what was tried.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.periods import from_microseconds, microseconds
from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.engine.search import search, suggest, write_trials
from recommender.errors import BundleError, LabelError, PeriodError
from recommender.models.campaign import defaults_of, ranker_class, ranker_modules
from recommender.models.next_item import ITEM_RANKERS
from recommender.models.next_item.rules import RulesConfig
from recommender.settings import Settings
from recommender.storage.code_identity import code_identity
from recommender.storage.manifest import digest
from recommender.training.train import CODE_OF_TRAINING, boundaries, fit_at

if TYPE_CHECKING:
    import optuna

    from recommender.features.training_set import TrainingSet


@dataclass(frozen=True)
class Tuned:
    """The best configuration of a search, its log loss (on the gate period, or the mean of the folds), and all trials."""

    config: dict[str, Any]
    log_loss: float
    trials: list[dict[str, Any]]


LOGISTIC: Space = {"strength": Range(1e-4, 0.1, log=True), "clip": Range(2.0, 8.0)}
TRANSFORMER: Space = {
    **LOGISTIC,
    "pretrain_epochs": Range(1, 6),
    "pretrain_rate": Range(5e-4, 5e-3, log=True),
    "tune_epochs": Range(0, 3),
    "tune_rate": Range(5e-5, 2e-3, log=True),
}
LIGHTGBM: Space = {
    "rounds": Range(100, 600),
    "learning_rate": Range(0.01, 0.1, log=True),
    "leaves": Range(4, 31),
    "min_pairs_a_leaf": Range(10, 100),
    "feature_share": Range(0.1, 0.8),
    "pair_share": Range(0.5, 1.0),
    "penalty": Range(0.1, 100.0, log=True),
}
CAMPAIGN_ITEMS: Space = {
    "campaign_min_lines": Range(10, 100, log=True),
    "campaign_events": Range(50, 1000, log=True),
    "campaign_strength": Range(1e-3, 10.0, log=True),
}
SPACES: Mapping[str, Space] = {
    "logistic": LOGISTIC,
    "lightgbm": LIGHTGBM,
    "transformer": TRANSFORMER,
    **dict.fromkeys(ITEM_RANKERS, CAMPAIGN_ITEMS),
    "rules": {**CAMPAIGN_ITEMS, **RulesConfig.search_space()},
}
"""What is searched of each ranker; of a next-item ranker, how its answers are read (its own dials are searched on sequences:
`benchmark sequences --trials`)."""


def tune(
    training_set: Path,
    ranker: str,
    trials: int,
    settings: Settings,
    study: Path,
    *,
    folds: int = 1,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Tuned:
    """Search `trials` configurations of `ranker` in all; `study`: SQLite file. Finished ones of an earlier call are included where the
    training set, the ranker's settings, seed, device, folds and code are the same.

    `folds`: 1 judges by the gate period alone; more judge by the mean over as many successive periods before test_from. The first
    trial is the ranker's present configuration, so the result is never worse than it there. Writes `study` with the ending .json
    beside it.

    Raises:
        BundleError: the ranker has nothing to tune.
        SettingsError: a GPU for a ranker that has no use for it.
        DeviceError: the device is absent.
        LabelError: a period that judges knows one class only.
        PeriodError: there are not enough campaigns for so many folds.
    """
    from recommender.engine.loop import require_device
    from recommender.features.training_set import TrainingSet

    if ranker not in SPACES:
        raise BundleError(f"{ranker}: nothing to tune; there are {', '.join(SPACES)}")
    require_device(ranker_class(ranker), settings.training.device)
    data = TrainingSet.open(training_set)
    objective = _Objective(data, ranker, settings, folds_of(data, settings, folds), progress)
    dials, of = settings.training.rankers.get(ranker, {}), (settings.training.seed, settings.training.device)
    present = {**defaults_of(ranker), **dials}
    found = search(
        study,
        f"{ranker}-{digest(data.manifest['content_hash'], dials, *of, objective.folds, study_code(ranker))[:12]}",
        objective,
        trials=trials,
        start={name: present[name] for name in SPACES[ranker] if name in present},
        seed=settings.training.seed,
        direction="minimize",
    )
    listed = [
        {
            "number": one.number,
            "log_loss": round(float(one.value), 6),
            **({"log_losses": one.user_attrs["log_losses"]} if folds > 1 else {}),
            **one.params,
        }
        for one in found.trials
        if one.value is not None
    ]
    result = Tuned(dict(found.best_params), float(found.best_value), listed)
    content = {"ranker": ranker, "judged_on": objective.judged_on, "best": result.config}
    write_trials(study, {**content, "log_loss": round(result.log_loss, 6)}, listed)
    return result


def study_code(ranker: str) -> str:
    """Identity of the code that can change a trial: what trains the ranker, and what judges it here."""
    return code_identity(*CODE_OF_TRAINING, "recommender.training.tune", *ranker_modules(ranker))


@dataclass(frozen=True)
class Fold:
    """A fit at `starts`, judged by the campaigns that start in [starts, ends), with the labels known when the last fold ends."""

    starts: datetime
    ends: datetime


def folds_of(data: "TrainingSet", settings: Settings, count: int) -> list[Fold]:
    """One fold: the gate period. Several: successive periods that end at test_from and hold about equally many pairs.

    The pairs are divided at moments at which campaigns start, in `count` parts after a first one that is only trained on.

    Raises:
        PeriodError: campaigns start at too few moments.
    """
    moments = boundaries(data, settings)
    if count == 1:
        return [Fold(moments["gate"], moments["test"])]
    end = microseconds(moments["test"])
    starts = np.sort(data.times_us("starts_at")[data.decided_in(None, moments["test"])])
    starts = starts[starts < end]
    cuts = [int(starts[len(starts) * part // (count + 1)]) for part in range(1, count + 1)] if len(starts) else []
    if len(set(cuts)) < count or cuts[0] == starts[0]:
        raise PeriodError(
            f"campaigns start at {len(np.unique(starts))} moments before test_from: too few for {count} folds. Ask for fewer."
        )
    edges = [*(from_microseconds(cut) for cut in cuts), moments["test"]]
    return [Fold(low, high) for low, high in pairwise(edges)]


class _Objective:
    """Mean log loss of fits at the folds' starts, each on its fold."""

    def __init__(
        self,
        data: "TrainingSet",
        ranker: str,
        settings: Settings,
        folds: Sequence[Fold],
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.data, self.settings, self.ranker, self.folds, self.progress = data, settings, ranker, folds, progress
        self.judged = []
        starts_N = data.times_us("starts_at")
        for fold in folds:
            low, high = microseconds(fold.starts), microseconds(fold.ends)
            mask = data.decided_in(fold.starts, fold.ends) & (starts_N >= low) & (starts_N < high)
            redeemed_N = data.labels_at(folds[-1].ends, mask).redeemed_N
            if not 0 < redeemed_N.sum() < len(redeemed_N):
                raise LabelError(
                    f"redeemed: the {self.judged_on} knows one class only from {fold.starts.date()} to {fold.ends.date()}, so "
                    "nothing can be chosen by it."
                )
            self.judged.append((data.examples(mask), redeemed_N))

    @property
    def judged_on(self) -> str:
        if len(self.folds) == 1:
            return "gate period"
        return f"{len(self.folds)} folds from {self.folds[0].starts.date()} to {self.folds[-1].ends.date()}"

    def __call__(self, trial: "optuna.Trial") -> float:
        training = self.settings.training
        config = {**training.rankers.get(self.ranker, {}), **suggest(trial, SPACES[self.ranker])}
        context = FitContext(seed=training.seed, device=training.device, progress=self.progress)
        losses = []
        for fold, (judged, redeemed_N) in zip(self.folds, self.judged, strict=True):
            fitted = fit_at(ranker_class(self.ranker), self.data, fold.starts, config, context)
            losses.append(log_loss(fitted.score(judged).redeem_N, redeemed_N))
        trial.set_user_attr("log_losses", [round(loss, 6) for loss in losses])
        return float(np.mean(losses))


def log_loss(redeem_N: NDArray[np.float32], redeemed_N: NDArray[np.float32]) -> float:
    """Mean negative log-likelihood."""
    p_N = np.clip(redeem_N.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(redeemed_N > 0, np.log(p_N), np.log1p(-p_N))))
