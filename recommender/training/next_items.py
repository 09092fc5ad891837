"""One ranker on one set of sequences: leave-one-out, every unseen item competes, every user is judged.

The last item of a user is the test, the one before it validation. Trained on `train`, the validation item chooses and is never
learned from; trained on `train+validation`, a first fit chooses and a second learns from it too. Each reading of a test is logged.
"""

import hashlib
import json
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.interactions import read_interactions
from recommender.engine import processes
from recommender.engine.context import FitContext
from recommender.engine.cost import Spent
from recommender.engine.guard import enough_memory
from recommender.engine.loop import require_device
from recommender.engine.machine import machine
from recommender.engine.precision import cpu_has_units
from recommender.engine.search import COST, require_study, search, suggest, write_trials
from recommender.errors import ContractError, SettingsError
from recommender.evaluation.cold_items import cold_split, judge_cold
from recommender.evaluation.leave_one_out import Ranks, judge
from recommender.models.next_item import ItemRanker, item_ranker_class, item_ranker_module
from recommender.models.next_item.export import export, require_exportable
from recommender.registry.bundle import require_replaceable, save_items
from recommender.sequences import LeaveOneOut, Sequences
from recommender.storage.code_identity import code_identity
from recommender.storage.manifest import (
    digest,
    require_apart,
    require_folder_takes_files,
    require_writable,
    sha256,
    write_text,
)

EXPORTED_USERS = 256
"""On so many users a program is compared with its ranker."""
TrainOn = Literal["train", "train+validation"]


@dataclass(frozen=True, eq=False)
class Result:
    """What one fit reached; `validation` is None where it was learned from."""

    ranker: ItemRanker[Any]
    validation: Ranks | None
    test: Ranks
    facts: dict[str, Any]


def run(
    sequences: Sequences,
    name: str,
    *,
    train_on: TrainOn = "train",
    context: FitContext | None = None,
    config: dict[str, Any] | None = None,
) -> Result:
    """Fit the ranker called `name` and judge it. Seconds are those of the fit, choosing included, and of fits that were killed and
    left the context's checkpoints; of the first process alone where `torchrun` started several (`processes`).

    Raises:
        BundleError: no ranker is called that.
        SettingsError: a dial in `config` is none of the ranker's.
        TrainingError, DeviceError: as the ranker's fit; memory that does not suffice to judge is one, too.
    """
    context, config = context or FitContext(), config or {}
    item_ranker_class(name).Config.parse(config, owner=name)
    with enough_memory(name, context.device):
        return _fit_and_judge(sequences, name, train_on, context, config)


def _fit_and_judge(
    sequences: Sequences, name: str, train_on: TrainOn, context: FitContext, config: dict[str, Any]
) -> Result:
    cls, split = item_ranker_class(name), LeaveOneOut.of(sequences)
    spent = Spent(context)
    context = replace(context, progress=spent.told)
    parsed = cls.Config.parse(config, owner=name)
    ranker = cls.fit(split.train, held_out_U=split.validation_U, config=parsed, context=context)
    chosen = ranker.chosen()
    validation = None
    if train_on == "train":
        cost = spent.seconds()
        validation = judge(ranker, split.train, split.validation_U)
    else:
        ranker = fit_again(split.train_and_validation, name, {**config, **chosen}, context, "again")
        cost = spent.seconds()
    before = time.process_time()
    test = judge(ranker, split.train_and_validation, split.test_U)
    facts = {
        "ranker": name,
        "train_on": train_on,
        "seed": context.seed,
        "config": config,
        "chosen": chosen,
        **cost,
        "processes": processes.started(),
        "score_cpu_seconds": round(time.process_time() - before, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    return Result(ranker, validation, test, facts)


def fit_again(
    sequences: Sequences, name: str, config: dict[str, Any], context: FitContext, place: str
) -> ItemRanker[Any]:
    """The ranker called `name`, fitted with nothing held out: `config` holds what an earlier fit chose. `place` names its checkpoints."""
    apart = replace(context, checkpoints=context.checkpoints and context.checkpoints / place)
    cls = item_ranker_class(name)
    parsed = cls.Config.parse(config, owner=name)
    with enough_memory(name, context.device):
        return cls.fit(sequences, held_out_U=None, config=parsed, context=apart)


def cold(
    sequences: Sequences, name: str, *, context: FitContext | None = None, config: dict[str, Any] | None = None
) -> dict[str, Any]:
    """NDCG@10 and recall@10 of items that no training event touched (5 % of the items, drawn by the context's seed), among all
    unseen items and among the cold ones only; the ranker is fitted anew without them.

    Raises:
        PeriodError: the set is too small for cold items to be anyone's last one.
    """
    cls = item_ranker_class(name)
    parsed = cls.Config.parse(config or {}, owner=name)
    context = context or FitContext()
    split = cold_split(sequences, seed=context.seed)
    apart = replace(context, checkpoints=context.checkpoints and context.checkpoints / "cold")
    with enough_memory(name, context.device):
        ranker = cls.fit(split.train, held_out_U=split.validation_U, config=parsed, context=apart)
        return judge_cold(ranker, split).summary()


def tuned(
    sequences: Sequences,
    name: str,
    *,
    trials: int,
    study: Path,
    data: str,
    context: FitContext,
    config: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dials (`config` and what was searched) that rank the users' validation items best by NDCG@10, and what the search took: study,
    trials and cpu_seconds of all of them, those of earlier calls too. The test is not read.

    `trials`: in all, those of an earlier call on the same `data` with the same code included; the first one is the ranker's own
    defaults. They lie in `study` (SQLite), and beside it as JSON. What chooses by the validation items itself (when to stop; the flagship's gate) makes
    their NDCG a little better than new users' would be.

    Raises:
        SettingsError: `config` says everything that could be searched.
        TrainingError: no trial could be trained.
    """
    split, cls = LeaveOneOut.of(sequences), item_ranker_class(name)
    space = {dial: among for dial, among in cls.Config.search_space().items() if dial not in config}
    if not space:
        raise SettingsError(f"{name}: nothing is left to search; every dial that could be is set")

    apart = replace(context, checkpoints=None)
    fit = cls.fits(split.train, held_out_U=split.validation_U, context=apart)

    def objective(trial: Any) -> float:
        parsed = cls.Config.parse({**config, **suggest(trial, space)}, owner=name)
        with enough_memory(name, context.device):
            return float(judge(fit(parsed), split.train, split.validation_U).ndcg_U().mean())

    own = cls.resolved(cls.Config.parse(config, owner=name), split.train)
    found = search(
        study,
        f"{name}-{digest(data, context.seed, config, ranker_code(name))[:12]}",
        objective,
        trials=trials,
        start={dial: getattr(own, dial) for dial in space},
        seed=context.seed,
        direction="maximize",
    )
    listed = [{"number": one.number, "ndcg@10": one.value, **one.params} for one in found.trials]
    best = {**config, **found.best_params}
    write_trials(
        study, {"ranker": name, "judged_on": "validation items", "best": best, "ndcg@10": found.best_value}, listed
    )
    finished = sum(one.value is not None for one in found.trials)
    spent = round(sum(float(one.user_attrs.get(COST, 0.0)) for one in found.trials), 2)
    return best, {"study": str(study), "trials": finished, "cpu_seconds": spent, "dials": best}


def counts(sequences: Sequences) -> dict[str, int]:
    """users, items, events, what is known of the items, and what may make the figures mean less than they seem to."""
    split = LeaveOneOut.of(sequences)
    last_U = sequences.offsets[1:][split.test_U > 0] - 1
    times_T = sequences.times_T
    return {
        "users": sequences.num_users,
        "users_judged": int((split.test_U > 0).sum()),
        "targets_seen_before": _seen_before(split),
        "targets_tied_in_time": 0 if times_T is None else int((times_T[last_U] == times_T[last_U - 1]).sum()),
        "items": sequences.items.num,
        "items_without_events": sequences.items.num - len(np.unique(sequences.items_T)),
        "events": len(sequences.items_T),
        "attributes": sequences.items.num_attributes,
        "items_with_text": sum(map(bool, sequences.items.texts or ())),
    }


def _seen_before(split: LeaveOneOut) -> int:
    """Users whose test item is one that they had before: it competes with unseen items only, which is easy."""
    histories = split.train_and_validation
    again_T = histories.items_T == split.test_U[histories.rows_T()]
    return len(np.unique(histories.rows_T()[again_T]))


def benchmark_file(
    interactions: Path,
    attributes: Path | None,
    *,
    ranker: str,
    train_on: TrainOn,
    seed: int,
    output: Path,
    device: str = "cpu",
    config: dict[str, Any] | None = None,
    readings: Path | None = None,
    checkpoints: Path | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    with_cold: bool = False,
    program: Path | None = None,
    compiled: bool = False,
    trials: int = 0,
    study: Path | None = None,
    bundle_folder: Path | None = None,
) -> dict[str, Any]:
    """Read the files, fit, judge, and write `output` (JSON): ndcg@10 and recall@10 of the test, counts, seconds, lineage. With
    `trials` the dials are searched first (`tuned`). Where a bundle or a `program` is asked for, the ranker is fitted once more on
    every event, the test items too, for as long as the validation items chose, and that one is kept.

    Raises:
        SourceError, ContractError: a file cannot be used; names file, column and row.
        SettingsError: a dial, a place to write to or the export cannot be; nothing was fitted.
        PeriodError: the set is too small for cold items; nothing was fitted.
    """
    if program is not None:
        require_exportable(item_ranker_class(ranker), compiled=compiled)
    config = dict(config or {})
    item_ranker_class(ranker).Config.parse(config, owner=ranker)
    if seed < 0:
        raise SettingsError(f"seed is {seed}; it is 0 or more")
    beside = program and program.with_name(f"{program.name}.json")
    for file in (output, readings, program, beside):
        if file is not None:
            require_writable(file)
    if checkpoints is not None:
        if checkpoints.exists() and not checkpoints.is_dir():
            raise SettingsError(f"{checkpoints}: checkpoints need a folder, and this is a file")
        require_folder_takes_files(checkpoints)
    study = study or output.with_name(f"{output.stem}-study.db")
    if trials:
        require_study(study)
        if processes.started() > 1:
            raise SettingsError(
                "a search is one process's work: leave out torchrun, or name the dials and leave out trials"
            )
    named = (study, study.with_suffix(".json")) if trials else ()
    require_apart(
        (interactions, attributes), (output, readings, program, beside, checkpoints, *named), replaced=bundle_folder
    )
    if bundle_folder is not None:
        require_replaceable(bundle_folder)
    require_device(item_ranker_class(ranker), device)
    sequences = read_interactions(interactions, attributes)
    data = {"interactions": sha256(interactions), "attributes": attributes and sha256(attributes)}
    context = FitContext(seed=seed, device=device, progress=progress)
    if not (LeaveOneOut.of(sequences).test_U > 0).any():
        raise ContractError(interactions.name, "no user has three events, so nobody can be judged", column="user")
    if with_cold:
        cold_split(sequences, seed=seed)
    searched = None
    if trials:
        words: dict[str, Any] = {"trials": trials, "study": study, "data": digest(data), "context": context}
        config, searched = tuned(sequences, ranker, **words, config=config)
    if checkpoints is not None:
        own = checkpoints_of(checkpoints, sequences, ranker, train_on, seed, config, device=device)
        context = replace(context, checkpoints=own)
    result = run(sequences, ranker, train_on=train_on, context=context, config=config)
    content = {
        **result.test.summary(),
        **result.facts,
        "validation": None if result.validation is None else result.validation.summary(),
        "interval95": {"ndcg@10": [min(max(edge, 0.0), 1.0) for edge in interval(result.test.ndcg_U())]},
        "cold": None,
        "counts": counts(sequences),
        "protocol": "leave-one-out, full ranking over unseen items, ties against the ranker, every user of three events and more",
        "data": data,
        "search": searched,
        **machine(device),
    }
    write(output, content)
    if readings is not None:
        log_reading(readings, interactions.name, ranker, train_on, seed)
    if with_cold:
        content["cold"] = cold(sequences, ranker, context=context, config=config)
        if readings is not None:
            log_reading(readings, f"{interactions.name}, cold items", ranker, "train", seed)
    if bundle_folder is not None or program is not None:
        chosen = {**config, **result.facts["chosen"]}
        kept = fit_again(sequences, ranker, chosen, context, "kept")
    if bundle_folder is not None and processes.is_first():
        facts = {"data": data, "config": config, "seed": seed, "train_on": train_on, "ndcg@10": content["ndcg@10"]}
        save_items(kept, sequences.items, bundle_folder, lineage={**facts, **machine(device)})
        content["bundle"] = str(bundle_folder)
    if program is not None and processes.is_first():
        some = sequences.take(np.arange(min(EXPORTED_USERS, sequences.num_users)))
        content["export"] = {
            "program": str(program),
            "largest_difference": export(kept, replace(some, users_U=None), program, compiled=compiled),
        }
    write(output, content)
    return content


def write(output: Path, content: dict[str, Any]) -> None:
    """Write what was found; of several processes the first one does."""
    if processes.is_first():
        write_text(output, json.dumps(content, indent=1, default=str))


def ranker_code(ranker: str) -> str:
    """Identity of the code that can change a fitted next-item ranker."""
    return code_identity("recommender.training.next_items", item_ranker_module(ranker))


def checkpoints_of(folder: Path, sequences: Sequences, ranker: str, *identity: Any, device: str = "cpu") -> Path:
    """A run's own checkpoints: named by what the sequences hold, `ranker`, `identity` (seed, hyperparameters, …), the code, the device
    and how this CPU multiplies, so that nothing else is resumed.
    """
    items = sequences.items
    held = (sequences.offsets, sequences.items_T, sequences.times_T, items.attribute_offsets, items.attributes_P)
    hashes = [None if one is None else hashlib.sha256(one.tobytes()).hexdigest() for one in held]
    where = (device, cpu_has_units())
    return folder / digest(hashes, items.ids, items.texts, ranker, *identity, where, ranker_code(ranker))[:16]


def interval(values_U: NDArray[np.float64]) -> list[float]:
    """95 % interval of the mean over users, by the normal approximation: low, high. Of one user nothing is known: -inf, inf."""
    mean = float(values_U.mean())
    half = 1.96 * float(values_U.std(ddof=1) / np.sqrt(len(values_U))) if len(values_U) > 1 else math.inf
    return [mean - half, mean + half]


def paired(ours_U: NDArray[np.float64], theirs_U: NDArray[np.float64]) -> dict[str, Any]:
    """Mean difference over the same users, with its 95 % interval."""
    gain_U = ours_U - theirs_U
    return {"mean": float(gain_U.mean()), "interval95": interval(gain_U)}


def log_reading(readings: Path, data: str, ranker: str, train_on: str, seed: int) -> None:
    """Note that a test was read: one JSON object a line; of several processes, which read it together, the first one does."""
    if not processes.is_first():
        return
    readings.parent.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"at": moment, "data": data, "ranker": ranker, "train_on": train_on, "seed": seed, **machine()}
    with readings.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def numbers(text: str) -> list[int]:
    """`17,18` -> [17, 18]; an argparse type, which names the option and the text where this is not a list of whole numbers."""
    return [int(number) for number in text.split(",")]


def dial(text: str) -> tuple[str, Any]:
    """`name=value` -> name and value, read as JSON where it is JSON.

    Raises:
        SettingsError: there is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: expected name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
