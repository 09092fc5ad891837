"""One ranker, fitted at three boundaries: what decides (gate), what is reported (test) and what serves (live).

A fit at boundary b sees the pairs decided before b, their labels as known at b, and purchases before b; nothing else. Work in
progress lies under `home`/checkpoints/<hash of data, configuration, code and boundary>, so a step that was killed and started
again in a new folder continues where it was, and finished fits are not made twice.
"""

import json
import platform
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.engine.checkpoints import PROGRESS, STEPS
from recommender.engine.context import FitContext
from recommender.engine.progress import lines
from recommender.errors import CorruptFileError, PeriodError
from recommender.models.campaign import ranker_class, ranker_modules
from recommender.models.campaign.ranker import Ranker
from recommender.models.dials import check_dials
from recommender.registry import bundle
from recommender.settings import Settings
from recommender.storage.code_identity import code_identity
from recommender.storage.home import Home
from recommender.storage.manifest import digest, read_manifest, whole_folder, write_text

if TYPE_CHECKING:
    from recommender.features.training_set import TrainingSet


@dataclass(frozen=True)
class TrainResult:
    """What a training says of itself; `metrics` are plain numbers for a dashboard."""

    output: Path
    lineage: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)


def train(
    training_set: Path,
    *,
    ranker: str,
    settings: Settings,
    output: Path,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Fit `ranker` at gate_from, test_from and as_of; write `output`/fits/{gate,test,live}, `output`/lineage.json, and the curves of
    what is trained in steps below `output`/progress: gate.jsonl, …; of a fit of several networks gate/member-0.jsonl, …. `say` is told
    how far a fit is.

    A finished `output` of the same data, configuration and code is returned as it is.

    Raises:
        PeriodError: no pair was decided before a boundary, or the boundaries are out of order.
        LabelError: a boundary knows one class only.
        DeviceError, TrainingError: the device is absent, memory ran out, or a loss was not finite.
        CorruptFileError: the training set is damaged.
        BundleError: no ranker is called that.
    """
    from recommender.features.training_set import TrainingSet

    cls = ranker_class(ranker)
    data = TrainingSet.open(training_set)
    moments = boundaries(data, settings)
    identity = {
        "data_hash": data.data_hash,
        "training_hash": training_hash(settings, ranker),
        "ranker": ranker,
        "code_version": training_code(ranker),
        "boundaries": {fit: moment.isoformat() for fit, moment in moments.items()},
    }
    finished = _finished(output, identity)
    if finished is not None:
        return finished
    started = time.perf_counter()
    places: dict[str, Path] = {}
    seconds: dict[str, float] = {}
    pairs: dict[str, int] = {}
    earlier: Ranker | None = None
    for fit, moment in moments.items():
        place = checkpoint_folder(settings.home, ranker, data, settings, moment, earlier=bool(earlier))
        fit_started = time.perf_counter()
        pairs[fit] = int(data.decided_in(None, moment).sum())
        if not _is_finished(place / "bundle"):
            context = FitContext(
                seed=settings.training.seed,
                device=settings.training.device,
                checkpoints=place,
                checkpoint_every_s=settings.training.checkpoint_every_s,
                progress=say and lines(say),
            )
            made = fit_at(cls, data, moment, settings.training.rankers.get(ranker, {}), context, earlier=earlier)
            bundle.save(made, place / "bundle", lineage={**identity, "fit": fit, "boundary": moment.isoformat()})
            for steps in list(place.rglob(STEPS)):
                shutil.rmtree(steps, ignore_errors=True)
        earlier = bundle.load(place / "bundle")
        seconds[fit] = round(time.perf_counter() - fit_started, 3)
        places[fit] = place
        if say is not None:
            say(f"{ranker}: fit {fit} on {pairs[fit]:,} pairs before {moment.isoformat()} in {seconds[fit]:.1f} s")
    known = {
        **identity,
        "seed": settings.training.seed,
        "device": settings.training.device,
        "config": settings.training.rankers.get(ranker, {}),
        "seconds": {**seconds, "all": round(time.perf_counter() - started, 3)},
        "pairs": pairs,
        "versions": _versions(),
    }
    with whole_folder(output) as folder:
        for fit, place in places.items():
            shutil.copytree(place / "bundle", folder / "fits" / fit)
            for log in place.rglob(PROGRESS):
                part = log.parent.relative_to(place)
                copied = (folder / "progress" / fit / part).with_suffix(".jsonl")
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, copied)
        write_text(folder / "lineage.json", json.dumps(known, indent=1, sort_keys=True))
    return TrainResult(output, known, _metrics(known))


def fit_at(
    cls: type[Ranker],
    data: "TrainingSet",
    moment: datetime,
    config: dict[str, Any],
    context: FitContext,
    *,
    earlier: Ranker | None = None,
) -> Ranker:
    """Fit on what was known at `moment`. `earlier`: the same ranker fitted at an earlier boundary.

    Raises:
        SettingsError: a dial in `config` is none of the ranker's, or cannot have that value.
        PeriodError: no pair was decided before it.
        TrainingError: as the ranker's fit, or memory did not suffice.
    """
    from recommender.engine.guard import enough_memory

    check_dials(cls.name, cls.defaults(), config)
    mask = data.decided_in(None, moment)
    if not mask.any():
        raise PeriodError(
            f"no pair was decided before {moment.isoformat()}: nothing to train on. Move the boundary later."
        )
    with enough_memory(cls.name, context.device):
        return cls.fit(
            data.examples(mask),
            data.labels_at(moment, mask),
            corpus=data.corpus(moment),
            config=config,
            context=context,
            earlier=earlier,
        )


CODE_OF_TRAINING = ("recommender.training.train", "recommender.features.build", "recommender.features.training_set")
"""Modules from which everything is reached that turns tables into a training set and a training set into a bundle."""


def training_code(ranker: str) -> str:
    """Identity of the code that can change a trained `ranker`: features, training set, engine, and the ranker's own modules."""
    return code_identity(*CODE_OF_TRAINING, *ranker_modules(ranker))


def training_hash(settings: Settings, ranker: str) -> str:
    """Identity of every setting that changes a trained `ranker`: not paths, ports, threads or other rankers' hyperparameters."""
    training = settings.training
    own = {"seed": training.seed, "device": training.device, "config": training.rankers.get(ranker, {})}
    return digest(own, settings.time.model_dump(mode="json"))


def boundaries(data: "TrainingSet", settings: Settings) -> dict[str, datetime]:
    """The moments of the fits, UTC, in order: what the settings say, or chosen from the pairs as the evaluation does.

    Raises:
        PeriodError: they are out of order, or the pairs do not afford a choice.
    """
    from recommender.datasets.moments import moment
    from recommender.datasets.periods import Pairs, choose

    chosen, zone = settings.time, data.time_zone
    now = moment(chosen.as_of, zone) if chosen.as_of is not None else data.as_of
    gate_from = None if chosen.gate_from is None else moment(chosen.gate_from, zone)
    test_from = None if chosen.test_from is None else moment(chosen.test_from, zone)
    if gate_from is None or test_from is None:
        times = [data.times_us(name) for name in ("starts_at", "decided_at", "redeemed_at")]
        gate_from, test_from = choose(Pairs(*times), now, gate_from=gate_from, test_from=test_from)
    if not gate_from < test_from <= now:
        raise PeriodError(
            f"periods out of order: gate_from {gate_from.isoformat()}, test_from {test_from.isoformat()}, as_of "
            f"{now.isoformat()}. Change `time` in the settings or leave gate_from and test_from out."
        )
    return {"gate": gate_from, "test": test_from, "live": now}


def checkpoint_folder(
    home: Path, ranker: str, data: "TrainingSet", settings: Settings, moment: datetime, *, earlier: bool
) -> Path:
    """Where a fit's work lies: named by everything that decides its weights, never by the step that does it."""
    from recommender.engine.precision import cpu_has_units

    config, where = settings.training.rankers.get(ranker, {}), (settings.training.device, cpu_has_units())
    inputs = (data.manifest["content_hash"], config, settings.training.seed, where, training_code(ranker))
    moments = [settings.time.model_dump(mode="json"), moment.isoformat(), earlier]
    return Home(home).checkpoint(f"{ranker}-{digest(inputs, moments)[:16]}")


def _is_finished(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        read_manifest(folder)
    except CorruptFileError:
        shutil.rmtree(folder)
        return False
    return True


def _finished(output: Path, identity: dict[str, Any]) -> TrainResult | None:
    path = output / "lineage.json"
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if any(known.get(name) != value for name, value in identity.items()):
        return None
    if not all(_is_finished(output / "fits" / fit) for fit in identity["boundaries"]):
        return None
    return TrainResult(output, known, _metrics(known))


def _metrics(known: dict[str, Any]) -> dict[str, float]:
    seconds = {f"seconds_{fit}": float(value) for fit, value in known["seconds"].items()}
    pairs = {f"pairs_{fit}": float(value) for fit, value in known["pairs"].items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**seconds, **pairs, "peak_memory_mb": round(peak, 1)}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "numpy", "scikit-learn", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
