"""Trials in a run: searches the challenger's hyperparameters before it is trained, where the settings ask for it."""

from pathlib import Path

from recommender import logs
from recommender.settings import Settings
from recommender.storage.home import Home

log = logs.get(__name__)


def with_best_trial(training_set: Path, ranker: str, settings: Settings) -> Settings:
    """The settings with the best hyperparameters of `training.trials` trials of `ranker`. Without trials, as they are.

    The study lies below `home`/tuning, as that of `recommender tune`: finished trials of the same data, settings and
    code count, so a step that was killed goes on.

    Raises:
        SettingsError, DeviceError, LabelError, PeriodError: as `tune`.
    """
    trials = settings.training.trials
    if not trials:
        return settings
    from recommender.training.tune import tune

    study = Home.of(settings).study(ranker)
    study.parent.mkdir(parents=True, exist_ok=True)
    best = tune(training_set, ranker, trials, settings, study)
    log.info(
        "trials finished",
        ranker=ranker,
        trials=len(best.trials),
        best=best.config,
        log_loss=best.log_loss,
        present_log_loss=best.present_log_loss,
    )
    given = settings.training.rankers.get(ranker, {})
    return settings.updated(training={"rankers": {ranker: {**given, **best.config}}})
