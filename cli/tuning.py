"""`tune`: search a ranker's hyper-parameters on the training set of the last run."""

import json

from pipelines.training_run import last_training_set
from recommender.settings import Settings


def tune_ranker(settings: Settings, ranker: str, *, trials: int, folds: int = 1) -> None:
    """Search, and print the best configuration as it goes into the settings file. A stopped search goes on where it was."""
    from cli.bars import fit_bars
    from recommender.training.tune import tune

    study = settings.home / "tuning" / (f"{ranker}.db" if folds == 1 else f"{ranker}-{folds}-folds.db")
    study.parent.mkdir(parents=True, exist_ok=True)
    with fit_bars() as progress:
        best = tune(last_training_set(settings), ranker, trials, settings, study, folds=folds, progress=progress)
    where = "on the gate period" if folds == 1 else f"on average over {folds} folds before the final test"
    print(f"the best of {len(best.trials)} trials: log loss {best.log_loss:.4f} {where}. In the settings file:\n")
    print(f"[training.rankers.{ranker}]")
    for name, value in best.config.items():
        print(f"{name} = {json.dumps(value)}")
    print(f"\nall trials: {study.with_suffix('.json')}")
