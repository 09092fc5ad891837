"""`tune`: search a ranker's hyperparameters on the training set of the last run."""

import json

from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.published import published_training_set


def tune_ranker(settings: Settings, ranker: str, *, trials: int, folds: int = 1) -> None:
    """Search, and print the best configuration as lines for the settings file. A stopped search continues."""
    from cli.bars import fit_bars
    from recommender.evaluation.judgement import with_gate_campaigns
    from recommender.training.tune import require_tunable, tune

    require_tunable(ranker)
    settings = with_gate_campaigns(settings)
    home = Home.of(settings)
    study = home.study(ranker if folds == 1 else f"{ranker}-{folds}-folds")
    training_set = published_training_set(home)
    study.parent.mkdir(parents=True, exist_ok=True)
    with fit_bars() as progress:
        best = tune(training_set, ranker, trials, settings, study, folds=folds, progress=progress)
    where = (
        "on the fold before the gate period" if folds == 1 else f"on average over {folds} folds before the gate period"
    )
    print(
        f"judged by {best.num_pairs:,} pairs of {best.num_campaigns} campaigns, {best.num_positives:,} of them "
        "participations"
    )
    now = "failed" if best.present_log_loss is None else f"{best.present_log_loss:.4f}"
    print(
        f"best of {len(best.trials)} trials: log loss {best.log_loss:.4f} {where}; the present configuration: {now}. "
        "In the settings file:\n"
    )
    print(f"[training.rankers.{ranker}]")
    for name, value in best.config.items():
        print(f"{name} = {json.dumps(value)}")
    print(f"\nall trials: {study.with_suffix('.json')}")
