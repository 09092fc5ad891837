"""Searches hyperparameters with an Optuna study in SQLite, which continues where a stopped search was.

What may be searched is declared on the fields of a ranker's configuration (`Hyperparameters.search_space`).
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
"""First bytes of an SQLite file (www.sqlite.org/fileformat.html)."""
COST = "cpu_seconds"
"""Attribute of a trial: the CPU time that it took."""

if TYPE_CHECKING:
    import optuna


def suggest(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
    """Let a trial choose a value for every hyperparameter of a search space."""
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
    """Check that a study can be kept in `file`, and its trials as JSON beside it.

    Raises:
        SettingsError: one of them cannot be written, or is a file of something else.
    """
    beside = file.with_suffix(".json")
    for one in (file, beside):
        require_writable(one)
    if beside.exists() and not _of_a_study(beside):
        raise SettingsError(
            f"{beside}: this is not of a study, and that of {file.name} would overwrite it; name another one"
        )
    if file.exists():
        with file.open("rb") as opened:
            if opened.read(len(SQLITE)) not in (b"", SQLITE):
                raise SettingsError(f"{file}: this is no study; name a file that is not there yet, or an earlier study")


def _of_a_study(beside: Path) -> bool:
    try:
        return "trials" in json.loads(beside.read_text(encoding="utf-8"))
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
    """Run a study until it has `trials` finished trials, those of earlier calls included.

    The first trial is `start`, so the best one is never worse than that. A trial whose training fails, or whose
    hyperparameters do not go together, counts as failed and is not chosen.

    Args:
        file: SQLite file of the study.
        study: its name in the file.
        objective: computes the value of a trial.
        trials: finished trials that there shall be.
        start: hyperparameters of the first trial.
        seed: of the sampler. With the number of earlier trials it gives a new one for each call.
        direction: whether a smaller or a larger value is better.

    Raises:
        TrainingError: the training of every trial failed.
        SettingsError: `file` is not a study.
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
    own_seed = (seed + len(found.trials)) % 2**32  # going on must not draw the same again
    found.sampler = optuna.samplers.TPESampler(seed=own_seed)
    finished = [one for one in found.trials if one.state == optuna.trial.TrialState.COMPLETE]
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
    if not any(one.state == optuna.trial.TrialState.COMPLETE for one in found.trials):
        last = f" The last one: {failed[-1]}" if failed else ""
        raise TrainingError(f"{study}: the training of all {len(found.trials)} trials failed; see {file}.{last}")
    return found


def write_trials(file: Path, content: Mapping[str, Any], listed: list[dict[str, Any]]) -> None:
    """Write the study's trials as JSON beside it."""
    write_text(file.with_suffix(".json"), json.dumps({**content, "trials": listed}, indent=1))
