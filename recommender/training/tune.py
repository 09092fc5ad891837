"""Hyper-parameters are searched on the gate period alone: fits at gate_from, judged by the log loss of what followed.

The final test is never read here. Trials lie in one SQLite study, so a search that was stopped goes on where it was; its
result is a small JSON file that says what was tried.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import BundleError, LabelError
from recommender.manifest import write_text
from recommender.models import FitContext, ranker_class
from recommender.settings import Settings
from recommender.training.train import boundaries, fit_at

if TYPE_CHECKING:
    import optuna

    from recommender.training.sets import TrainingSet


@dataclass(frozen=True)
class Tuned:
    """The best configuration of a search, its log loss on the gate period, and all trials."""

    config: dict[str, Any]
    log_loss: float
    trials: list[dict[str, Any]]


def _logistic(trial: "optuna.Trial") -> dict[str, Any]:
    return {
        "strength": trial.suggest_float("strength", 1e-4, 0.1, log=True),
        "clip": trial.suggest_float("clip", 2.0, 8.0),
    }


def _transformer(trial: "optuna.Trial") -> dict[str, Any]:
    return {
        "strength": trial.suggest_float("strength", 1e-4, 0.1, log=True),
        "clip": trial.suggest_float("clip", 2.0, 8.0),
        "pretrain_epochs": trial.suggest_int("pretrain_epochs", 1, 6),
        "pretrain_rate": trial.suggest_float("pretrain_rate", 5e-4, 5e-3, log=True),
        "tune_epochs": trial.suggest_int("tune_epochs", 0, 3),
        "tune_rate": trial.suggest_float("tune_rate", 5e-5, 2e-3, log=True),
    }


SPACES: Mapping[str, Callable[["optuna.Trial"], dict[str, Any]]] = {
    "logistic": _logistic,
    "transformer": _transformer,
}


def tune(training_set: Path, ranker: str, trials: int, settings: Settings, study: Path) -> Tuned:
    """Search `trials` configurations of `ranker` in all (finished ones of an earlier call included); `study`: SQLite file.

    The first trial is the ranker's present configuration, so the result is never worse than it on the gate period. Writes
    `study` with the ending .json beside it.

    Raises:
        BundleError: the ranker has nothing to tune.
        LabelError: the gate period knows one class only.
    """
    import optuna

    from recommender.training.sets import TrainingSet

    if ranker not in SPACES:
        raise BundleError(f"{ranker}: nothing to tune; there are {', '.join(SPACES)}")
    data = TrainingSet.open(training_set)
    objective = _Objective(data, ranker, settings)
    study.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = optuna.create_study(
        study_name=f"{ranker}-{data.manifest['content_hash'][:12]}",
        storage=f"sqlite:///{study}",
        sampler=optuna.samplers.TPESampler(seed=settings.training.seed),
        load_if_exists=True,
    )
    finished = [one for one in search.trials if one.state == optuna.trial.TrialState.COMPLETE]
    if not finished:
        start = settings.training.rankers.get(ranker, {})
        defaults = {**objective.defaults(), **start}
        search.enqueue_trial({name: defaults[name] for name in objective.dials() if name in defaults})
    search.optimize(objective, n_trials=max(trials - len(finished), 0))
    listed = [
        {"number": one.number, "log_loss": round(float(one.value), 6), **one.params}
        for one in search.trials
        if one.value is not None
    ]
    result = Tuned(dict(search.best_params), float(search.best_value), listed)
    content = {"ranker": ranker, "judged_on": "gate period", "best": result.config, "trials": listed}
    write_text(study.with_suffix(".json"), json.dumps({**content, "log_loss": round(result.log_loss, 6)}, indent=1))
    return result


class _Objective:
    """Log loss on the gate period of a fit at its start."""

    def __init__(self, data: "TrainingSet", ranker: str, settings: Settings) -> None:
        self.data, self.settings, self.ranker = data, settings, ranker
        moments = boundaries(data, settings)
        self.gate_from, test_from = moments["gate"], moments["test"]
        starts = data.times_us("starts_at")
        low, high = (round(moment.timestamp() * 1e6) for moment in (self.gate_from, test_from))
        self.mask = data.decided_in(self.gate_from, test_from) & (starts >= low) & (starts < high)
        self.redeemed_N = data.labels_at(test_from, self.mask).redeemed_N
        if not 0 < self.redeemed_N.sum() < len(self.redeemed_N):
            raise LabelError("redeemed: the gate period knows one class only, so nothing can be chosen by it.")
        self.judged = data.examples(self.mask)

    def __call__(self, trial: "optuna.Trial") -> float:
        training = self.settings.training
        config = {**training.rankers.get(self.ranker, {}), **SPACES[self.ranker](trial)}
        context = FitContext(seed=training.seed, device=training.device, threads=training.threads)
        fitted = fit_at(ranker_class(self.ranker), self.data, self.gate_from, config, context)
        return log_loss(fitted.score(self.judged).redeem_N, self.redeemed_N)

    def defaults(self) -> dict[str, Any]:
        """The ranker's own configuration."""
        from importlib import import_module

        found: dict[str, Any] = import_module(ranker_class(self.ranker).__module__).DEFAULTS
        return found

    def dials(self) -> list[str]:
        """Names of what is searched."""
        import optuna

        return list(SPACES[self.ranker](optuna.trial.FixedTrial(self.defaults())))  # type: ignore[arg-type]


def log_loss(redeem_N: NDArray[np.float32], redeemed_N: NDArray[np.float32]) -> float:
    """Mean negative log-likelihood."""
    p_N = np.clip(redeem_N.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(redeemed_N > 0, np.log(p_N), np.log1p(-p_N))))
