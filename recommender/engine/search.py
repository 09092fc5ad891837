"""Search for hyperparameters: an Optuna study in an SQLite file, so that a search that was stopped can continue.

The fields of a ranker's configuration define the search space (`Hyperparameters.search_space`).
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from recommender.engine.hyperparameters import Choices, Space
from recommender.errors import SettingsError, TrainingError
from recommender.storage.manifest import require_writable, write_text

SQLITE = b"SQLite format 3\0"
"""First bytes of every SQLite file."""
COST = "cpu_seconds"
"""Name of the trial's attribute that holds its cost."""

if TYPE_CHECKING:
    import optuna


def suggest(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
    """One value for each hyperparameter of `space`."""
    out: dict[str, Any] = {}
    for name, among in space.items():
        if isinstance(among, Choices):
            out[name] = trial.suggest_categorical(name, among.values)
        elif isinstance(among.low, int) and isinstance(among.high, int):
            out[name] = trial.suggest_int(name, among.low, among.high, log=among.log)
        else:
            out[name] = trial.suggest_float(name, among.low, among.high, log=among.log)
    return out


def require_study(file: Path) -> None:
    """Check that a study can be kept in `file`, and its trials in the JSON file beside it.

    Raises:
        SettingsError: one of the two cannot be written, or holds something else.
    """
    trials = file.with_suffix(".json")
    for path in (file, trials):
        require_writable(path)
    if trials.exists() and not _lists_trials(trials):
        raise SettingsError(
            f"{trials}: this is not a list of trials, and the search in {file.name} would overwrite it. "
            "Name another study."
        )
    if file.exists():
        with file.open("rb") as opened:
            if opened.read(len(SQLITE)) not in (b"", SQLITE):
                raise SettingsError(f"{file}: this is not a study (SQLite). Name a new file, or an earlier study.")


def _lists_trials(path: Path) -> bool:
    try:
        return "trials" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError):
        return False


def search(
    file: Path,
    study: str,
    objective: Callable[["optuna.Trial"], float],
    *,
    trials: int,
    start: Mapping[str, Any],
    seed: int,
    direction: Literal["minimize", "maximize"],
) -> "optuna.Study":
    """Run trials of a study, `trials` in all. Finished ones of an earlier call count.

    The first trial is `start`, so the best is never worse than that. A trial whose training fails, or whose
    hyperparameters are not allowed together, counts but is not chosen.

    Args:
        file: the SQLite file of the study; it may hold several.
        study: the study's name; finished trials of an earlier call under this name count.
        objective: a trial's value. It takes its hyperparameters by `suggest`.
        trials: number of trials, with the finished ones of an earlier call.
        start: hyperparameters of the first trial.
        seed: draws the hyperparameters of the others.
        direction: whether the best value is the least or the largest.

    Raises:
        TrainingError: every trial's training failed.
        SettingsError: `file` holds something else or is damaged.
    """
    import optuna
    from sqlalchemy.exc import DatabaseError

    file.parent.mkdir(parents=True, exist_ok=True)
    require_study(file)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        found = optuna.create_study(
            study_name=study,
            storage=f"sqlite:///{quote(str(file))}",
            direction=direction,
            load_if_exists=True,
        )
    except DatabaseError as error:
        raise SettingsError(f"{file}: this study cannot be read ({error.__cause__ or error})") from None
    # A search that continues must not draw the trials of its first run again. Optuna takes seeds of 32 bits.
    own_seed = (seed + len(found.trials)) % 2**32
    found.sampler = optuna.samplers.TPESampler(seed=own_seed)
    finished = _finished(found)
    if not finished:
        found.enqueue_trial(dict(start))
    failed: list[Exception] = []

    def tried(trial: optuna.Trial) -> float:
        began = time.process_time()
        try:
            return objective(trial)
        except (TrainingError, SettingsError) as error:
            failed.append(error)
            raise
        finally:
            trial.set_user_attr(COST, round(time.process_time() - began, 2))

    found.optimize(tried, n_trials=max(trials - len(finished), 0), catch=(TrainingError, SettingsError))
    if not _finished(found):
        last = f" The last one: {failed[-1]}" if failed else ""
        raise TrainingError(f"{study}: the training of all {len(found.trials)} trials failed; see {file}.{last}")
    return found


def _finished(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def write_trials(file: Path, content: Mapping[str, Any], listed: list[dict[str, Any]]) -> None:
    """Write the trials to the JSON file beside the study."""
    write_text(file.with_suffix(".json"), json.dumps({**content, "trials": listed}, indent=1))
