"""Search a campaign ranker's hyperparameters by the log loss of campaigns that start before the gate period.

The search rolls its origin: it fits at one or more moments before gate_from, and the campaigns that start until the
next moment judge each fit (Tashman, "Out-of-sample tests of forecasting accuracy", 2000). A trial's value is the mean
over the folds. What is searched is the `search_space` of the ranker's `Config`.

Neither the gate period nor the final test is read here: hyperparameters that were chosen by the gate period would be
judged by what they were chosen for. Trials are kept in a SQLite study, so a search that was stopped continues. A JSON
file beside it lists all trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.periods import microseconds
from recommender.engine.context import FitContext
from recommender.engine.search import search, suggest, write_trials
from recommender.errors import LabelError, SettingsError
from recommender.models.campaign import RANKERS, Ranker, ranker_class, ranker_modules
from recommender.settings import Settings
from recommender.storage.code_identity import code_identity
from recommender.storage.manifest import SHOWN_DIGITS, digest
from recommender.training.identity import CODE_OF_TRAINING
from recommender.training.origins import origins_before
from recommender.training.train import boundaries, fit_at

if TYPE_CHECKING:
    import optuna

    from recommender.features.training_set import TrainingSet


DIGITS = 6
"""Decimals of the log losses in the JSON file: finer than any difference that means something."""
SURE = 1e-7
"""Probabilities are clipped this far from 0 and 1, so that a log loss stays finite."""


@dataclass(frozen=True)
class Tuned:
    """Result of a search."""

    config: dict[str, Any]
    """The searched hyperparameters of the best trial."""
    log_loss: float
    """Log loss of the best trial, as the mean over the folds."""
    present_log_loss: float | None
    """That of the ranker's present configuration. None if its training failed."""
    num_pairs: int
    """Pairs that judge, over all folds."""
    num_campaigns: int
    num_positives: int
    trials: list[dict[str, Any]]
    """Number, log loss and searched hyperparameters of each finished trial."""


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
    """Search `trials` configurations of `ranker`, and write `study` and a JSON file beside it.

    Finished trials of an earlier call count where the training set, the ranker's settings, seed, device, folds and code
    are the same. The first trial is the ranker's present configuration, so the result is never worse than that on what
    judges it.

    Args:
        training_set: Folder of the training set.
        ranker: Name of a campaign ranker.
        trials: Number of trials, finished ones of an earlier call included.
        settings: Boundaries, seed, device and the ranker's present hyperparameters.
        study: SQLite file of the trials.
        folds: Number of successive periods before gate_from that judge.
        progress: Called with facts on the progress of each fit.

    Raises:
        BundleError: There is no such ranker.
        SettingsError: The ranker has nothing to search, its configuration is not allowed, or it has no use for the GPU.
        DeviceError: This machine lacks the device.
        LabelError: All outcomes of a period that judges are the same.
        PeriodError: Campaigns start at too few moments for so many folds.
    """
    from recommender.engine.loop import require_device
    from recommender.features.training_set import TrainingSet

    cls, given = require_tunable(ranker), settings.training.rankers.get(ranker, {})
    space, present = cls.Config.search_space(), cls.Config.parse(given, owner=ranker).model_dump()
    start = {name: present[name] for name in space}
    require_device(cls, settings.training.device)
    data = TrainingSet.open(training_set)
    with TemporaryDirectory() as kept:
        objective = _Objective(data, cls, settings, folds_of(data, settings, folds), progress, Path(kept))
        of = (settings.training.seed, settings.training.device)
        identity = digest(data.manifest["content_hash"], given, *of, objective.folds, str(space), study_code(ranker))
        found = search(
            study,
            f"{ranker}-{identity[:SHOWN_DIGITS]}",
            objective,
            trials=trials,
            start=start,
            seed=settings.training.seed,
            direction="minimize",
        )
    listed = [
        {
            "number": one.number,
            "log_loss": round(float(one.value), DIGITS),
            **({"log_losses": one.user_attrs["log_losses"]} if folds > 1 else {}),
            **one.params,
        }
        for one in found.trials
        if one.value is not None
    ]
    result = Tuned(
        config=dict(found.best_params),
        log_loss=float(found.best_value),
        present_log_loss=next(
            (one.value for one in found.trials if one.params == start and one.value is not None), None
        ),
        num_pairs=objective.num_pairs,
        num_campaigns=objective.num_campaigns,
        num_positives=objective.num_positives,
        trials=listed,
    )
    content = {"ranker": ranker, "judged_on": objective.judged_on, "best": result.config}
    write_trials(study, {**content, "log_loss": round(result.log_loss, DIGITS)}, listed)
    return result


def require_tunable(ranker: str) -> type[Ranker[Any]]:
    """Return the class of a ranker whose hyperparameters can be searched.

    Raises:
        BundleError: There is no such ranker.
        SettingsError: The ranker has nothing to search. Names those that have.
    """
    cls = ranker_class(ranker)
    if not cls.Config.search_space():
        others = ", ".join(name for name in RANKERS if ranker_class(name).Config.search_space())
        raise SettingsError(f"{ranker}: no hyperparameter has a search range. Rankers that can be tuned: {others}")
    return cls


def study_code(ranker: str) -> str:
    """Identity of the code that can change a trial: what trains the ranker, and what judges it here."""
    return code_identity(*CODE_OF_TRAINING, "recommender.training.tune", *ranker_modules(ranker))


@dataclass(frozen=True)
class Fold:
    """A fit at `starts`, judged by the campaigns that start in [starts, ends), as known when the last fold ends."""

    starts: datetime
    ends: datetime


def folds_of(data: "TrainingSet", settings: Settings, count: int) -> list[Fold]:
    """Periods that judge: successive ones up to gate_from with about equal pairs.

    The pairs before gate_from are divided at moments at which campaigns start into `count` + 1 parts. The first part is
    only trained on.

    Raises:
        PeriodError: Campaigns start at too few moments.
    """
    last = boundaries(data, settings)["gate"]
    starts = origins_before(data, last, count, name="gate_from", parts="folds")
    return [Fold(low, high) for low, high in pairwise([*starts, last])]


class _Objective:
    """Value of a trial: mean log loss of fits at the folds' starts, each on its own fold."""

    def __init__(
        self,
        data: "TrainingSet",
        cls: type[Ranker[Any]],
        settings: Settings,
        folds: Sequence[Fold],
        progress: Callable[[dict[str, Any]], None] | None,
        kept: Path,
    ) -> None:
        self.data, self.settings, self.cls, self.folds, self.progress = data, settings, cls, folds, progress
        self.kept = kept
        """What the trials' fits on the same fold have in common."""
        self.judged = []
        campaign_ids: set[str] = set()
        starts_N = data.times_us("starts_at")
        for fold in folds:
            low, high = microseconds(fold.starts), microseconds(fold.ends)
            mask = data.decided_in(fold.starts, fold.ends) & (starts_N >= low) & (starts_N < high)
            redeemed_N = data.labels_at(folds[-1].ends, mask).redeemed_N
            if not 0 < redeemed_N.sum() < len(redeemed_N):
                raise LabelError(
                    f"redeemed: {len(redeemed_N)} pairs of the {self.judged_on} from {fold.starts.date()} to "
                    f"{fold.ends.date()} all have the same outcome, so they cannot judge a trial. "
                    "Use other periods or fewer folds."
                )
            campaign_ids.update(data.pairs.column("campaign_id").filter(mask).to_pylist())
            self.judged.append((data.examples(mask).read_at(microseconds(folds[-1].ends)), redeemed_N))
        self.num_campaigns = len(campaign_ids)
        self.num_pairs = sum(len(redeemed_N) for _, redeemed_N in self.judged)
        self.num_positives = int(sum(redeemed_N.sum() for _, redeemed_N in self.judged))

    @property
    def judged_on(self) -> str:
        """Name of what judges, for messages and the JSON file."""
        count = "1 fold" if len(self.folds) == 1 else f"{len(self.folds)} folds"
        return f"{count} from {self.folds[0].starts.date()} to {self.folds[-1].ends.date()}"

    def __call__(self, trial: "optuna.Trial") -> float:
        training = self.settings.training
        given = training.rankers.get(self.cls.name, {})
        searched = suggest(trial, self.cls.Config.search_space())
        config = self.cls.Config.parse({**given, **searched}, owner=self.cls.name)
        context = FitContext(seed=training.seed, device=training.device, progress=self.progress)
        losses = []
        for fold, (judged, redeemed_N) in zip(self.folds, self.judged, strict=True):
            # Without further fits for a calibrator, which would multiply the time of a trial.
            fitted = fit_at(self.cls, self.data, fold.starts, config, context, calibration_fits=0, kept=self.kept)
            losses.append(log_loss(fitted.score(judged).redeem_N, redeemed_N))
        trial.set_user_attr("log_losses", [round(loss, DIGITS) for loss in losses])
        return float(np.mean(losses))


def log_loss(redeem_N: NDArray[np.float32], redeemed_N: NDArray[np.float32]) -> float:
    """Mean negative log-likelihood of outcomes (0 or 1) under N probabilities."""
    p_N = np.clip(redeem_N.astype(np.float64), SURE, 1 - SURE)
    return float(-np.mean(np.where(redeemed_N > 0, np.log(p_N), np.log1p(-p_N))))
