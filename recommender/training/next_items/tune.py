"""Searches the hyperparameters of a next-item ranker by the users' validation items. The test is not read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recommender.engine.context import FitContext
from recommender.engine.guard import enough_memory
from recommender.engine.search import COST, search, suggest, write_trials
from recommender.errors import SettingsError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item import item_ranker_class
from recommender.sequences import LeaveOneOut, Sequences
from recommender.storage.manifest import SHOWN_DIGITS, digest, write_text
from recommender.training.next_items.fitting import fitting_code, hyperparameters_of
from recommender.training.next_items.outputs import Outputs
from recommender.training.next_items.request import FitRequest


@dataclass(frozen=True)
class Found:
    """The best hyperparameters of a search, and the cost of the search.

    Attributes:
        best: The hyperparameters that were given, and the best values of those that were searched.
        ndcg: NDCG@10 of the validation items with `best`. What chose by these items itself (when to stop, the gate of
            `fusion`) makes it a little better than new users' would be.
        study: The SQLite file of the study.
        trials: Finished trials, those of earlier calls included.
        cpu_seconds: CPU-seconds of all trials.
    """

    best: dict[str, Any]
    ndcg: float
    study: Path
    trials: int
    cpu_seconds: float


def tune_ranker(request: FitRequest, outputs: Outputs, *, trials: int) -> Found:
    """Search on the request's files, and write the best hyperparameters to `outputs.report` where it is given.

    Raises:
        SettingsError: A hyperparameter or a path is not possible. Nothing was tried.
        SourceError, ContractError: A file cannot be used; names file, column and row.
        TrainingError: No trial could be trained.
    """
    report = outputs.report
    if outputs.study is None:
        raise SettingsError("a search needs a file for its study")
    if report is not None and report.suffix.lower() not in (".toml", ".json"):
        raise SettingsError(f"{report}: the best hyperparameters are written as .toml or .json; name such a file")
    outputs.check(request)
    request.check()
    sequences = request.read()
    found = search_hyperparameters(
        sequences,
        request.ranker,
        trials=trials,
        study=outputs.study,
        data=request.data_identity(),
        context=request.context(),
        hyperparameters=request.hyperparameters,
    )
    if report is not None:
        toml = report.suffix.lower() == ".toml"
        write_text(report, as_toml(request.ranker, found.best) if toml else json.dumps(found.best, indent=1) + "\n")
    return found


def search_hyperparameters(
    sequences: Sequences,
    ranker: str,
    *,
    trials: int,
    study: Path,
    data: str,
    context: FitContext,
    hyperparameters: Mapping[str, Any],
) -> Found:
    """Search what `hyperparameters` does not set, by NDCG@10 of the validation items.

    Args:
        sequences: The events, test items included; these are not read.
        ranker: The ranker's name.
        trials: How many trials in all. Those of an earlier call on the same data with the same code count.
            The first one is the ranker's defaults.
        study: The SQLite file; the trials stand beside it as JSON.
        data: Identity of the data: a hash of the files and of the code that reads them.
        context: Seed, device, progress. Trials leave no checkpoints.
        hyperparameters: Those that are set and not searched.

    Raises:
        SettingsError: `hyperparameters` sets everything that can be searched.
        TrainingError: No trial could be trained.
    """
    split, cls, given = LeaveOneOut.of(sequences), item_ranker_class(ranker), dict(hyperparameters)
    searched = cls.Config.search_space()
    space = {name: among for name, among in searched.items() if name not in given}
    if not space:
        raise SettingsError(
            f"{ranker}: nothing is left to search, because every hyperparameter with a search space is set "
            f"({', '.join(searched) or 'it has none'})"
        )
    without_checkpoints = replace(context, checkpoints=None)
    fit = cls.fits(split.train, held_out_U=split.validation_U, context=without_checkpoints)

    def objective(trial: Any) -> float:
        tried = hyperparameters_of(ranker, {**given, **suggest(trial, space)})
        with enough_memory(ranker, context.device):
            return float(judge(fit(tried), split.train, split.validation_U).ndcg_U().mean())

    defaults = cls.resolved(hyperparameters_of(ranker, given), split.train)
    result = search(
        study,
        f"{ranker}-{digest(data, context.seed, given, fitting_code(ranker))[:SHOWN_DIGITS]}",
        objective,
        trials=trials,
        start={name: getattr(defaults, name) for name in space},
        seed=context.seed,
        direction="maximize",
    )
    listed = [{"number": one.number, "ndcg@10": one.value, **one.params} for one in result.trials]
    best = {**given, **result.best_params}
    facts = {"ranker": ranker, "judged_on": "validation items", "best": best, "ndcg@10": result.best_value}
    write_trials(study, facts, listed)
    finished = sum(one.value is not None for one in result.trials)
    cpu_seconds = round(sum(float(one.user_attrs.get(COST, 0.0)) for one in result.trials), 2)
    return Found(best, float(result.best_value), study, finished, cpu_seconds)


def as_toml(ranker: str, hyperparameters: Mapping[str, Any]) -> str:
    """The hyperparameters as a table of the settings file. None, a default taken from the data, is left out."""
    lines = [f"{name} = {_toml(value)}" for name, value in hyperparameters.items() if value is not None]
    return "\n".join([f"[training.rankers.{ranker}]", *lines]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items() if one is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
