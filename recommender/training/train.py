"""Train one campaign ranker at three boundaries: one fit decides (gate), one is reported (test), one serves (live).

A fit at boundary b sees only the pairs decided before b, their labels as known at b, and purchases before b. Work in
progress lies under `home`/checkpoints/<ranker>-<hash of data, configuration, code and boundary>. So a step that was
killed and started again in a new folder continues where it was, and finished fits are not repeated.
"""

import json
import platform
import resource
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recommender import logs
from recommender.engine.checkpoints import PROGRESS, STEPS
from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.engine.progress import log_progress
from recommender.errors import CorruptFileError, PeriodError
from recommender.models.campaign import ranker_class
from recommender.models.campaign.horizon_ranker import HorizonRanker, fit_over_horizon
from recommender.models.campaign.ranker import Ranker
from recommender.registry import bundle
from recommender.settings import Settings
from recommender.storage.home import REFERENCE_FILE, Home
from recommender.storage.in_use import in_use
from recommender.storage.manifest import read_manifest, whole_folder, write_text
from recommender.training.identity import checkpoint_folder, training_code, training_hash

if TYPE_CHECKING:
    from recommender.features.training_set import TrainingSet

log = logs.get(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Paths of a training's results, and facts about it."""

    output: Path
    lineage: dict[str, Any]
    """Data, configuration, code, boundaries, durations and library versions, as in lineage.json."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Plain numbers for a dashboard."""


def train(
    training_set: Path,
    *,
    ranker: str,
    settings: Settings,
    output: Path,
) -> TrainResult:
    """Fit `ranker` at gate_from, test_from and as_of, and write the bundles and their lineage.

    Writes `output`/fits/{gate,test,live} (bundles), `output`/lineage.json, and the curves of what is trained in steps
    below `output`/progress: gate.jsonl, or gate/member-0.jsonl and so on where a fit trains several networks. A
    finished `output` of the same data, configuration and code is returned as it is.

    Args:
        training_set: Folder of the training set.
        ranker: Name of a campaign ranker.
        settings: Boundaries, seed, device and the ranker's hyperparameters.
        output: Folder to write.

    Raises:
        BundleError: There is no such ranker.
        SettingsError: A hyperparameter is unknown or its value not allowed.
        PeriodError: No pair was decided before a boundary, or the boundaries are out of order.
        LabelError: All outcomes known at a boundary are the same.
        DeviceError: This machine lacks the device.
        TrainingError: Memory ran out, or a loss was not finite.
        CorruptFileError: The training set is damaged.
    """
    with in_use(Home.of(settings)):
        return _train(training_set, ranker, settings, output)


def _train(training_set: Path, ranker: str, settings: Settings, output: Path) -> TrainResult:
    from recommender.features.training_set import TrainingSet

    cls = ranker_class(ranker)
    given = settings.training.rankers.get(ranker, {})
    config = cls.Config.parse(given, owner=ranker)
    data = TrainingSet.open(training_set)
    moments = boundaries(data, settings)
    identity = {
        "data_hash": data.data_hash,
        "training_hash": training_hash(settings, ranker),
        "ranker": ranker,
        "code_version": training_code(ranker),
        "feature_service": data.manifest.get("feature_service", ""),
        "boundaries": {fit: moment.isoformat() for fit, moment in moments.items()},
    }
    finished = _finished(output, identity)
    if finished is not None:
        return finished
    started = time.perf_counter()
    places: dict[str, Path] = {}
    seconds: dict[str, float] = {}
    pairs: dict[str, int] = {}
    earlier: Ranker[Any] | None = None
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
                progress=log_progress(ranker=ranker, fit=fit),
            )
            made = fit_at(
                cls,
                data,
                moment,
                config,
                context,
                earlier=earlier,
                calibration_fits=settings.training.calibration_fits,
                kept=Home.of(settings).checkpoints,
            )
            bundle.save(made, place / "bundle", lineage={**identity, "fit": fit, "boundary": moment.isoformat()})
            for steps in list(place.rglob(STEPS)):
                shutil.rmtree(steps, ignore_errors=True)
        earlier = bundle.load(place / "bundle")
        seconds[fit] = round(time.perf_counter() - fit_started, 3)
        places[fit] = place
        log.info(
            "fit finished",
            ranker=ranker,
            fit=fit,
            pairs=pairs[fit],
            boundary=moment.isoformat(),
            seconds=seconds[fit],
        )
    known = {
        **identity,
        "seed": settings.training.seed,
        "device": settings.training.device,
        "config": given,
        "seconds": {**seconds, "all": round(time.perf_counter() - started, 3)},
        "pairs": pairs,
        "versions": _versions(),
    }
    _write_output(output, places, known, training_set / REFERENCE_FILE)
    return TrainResult(output, known, _metrics(known))


def _write_output(output: Path, places: Mapping[str, Path], lineage: Mapping[str, Any], reference: Path) -> None:
    """Copy each fit's bundle and curves from where it was made, and write the lineage beside them.

    The training set's distributions of features go along: monitoring compares later features with them.
    """
    with whole_folder(output) as folder:
        for fit, place in places.items():
            shutil.copytree(place / "bundle", folder / "fits" / fit)
            for curve in place.rglob(PROGRESS):
                part = curve.parent.relative_to(place)
                copied = (folder / "progress" / fit / part).with_suffix(".jsonl")
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(curve, copied)
        if reference.is_file():
            shutil.copyfile(reference, folder / REFERENCE_FILE)
        write_text(folder / "lineage.json", json.dumps(lineage, indent=1, sort_keys=True))


def fit_at(
    cls: type[Ranker[Any]],
    data: "TrainingSet",
    moment: datetime,
    config: Hyperparameters,
    context: FitContext,
    *,
    earlier: Ranker[Any] | None = None,
    calibration_fits: int | None = None,
    kept: Path | None = None,
) -> HorizonRanker:
    """Fit on what was known at `moment`. The ranker scores participation over the horizon of each pair.

    Args:
        cls: Class of the ranker.
        data: The training set.
        moment: Boundary of the fit.
        config: Instance of `cls.Config`.
        context: Seed, device, checkpoints and progress.
        earlier: The same ranker fitted at an earlier boundary.
        calibration_fits: Most further fits for the choice of the calibrator. None: what the class allows.
        kept: Folder that keeps what does not depend on the ranker, for fits of other rankers at this moment.

    Raises:
        PeriodError: No pair was decided before `moment`.
        LabelError, DeviceError: As `Ranker.fit`.
        TrainingError: As `Ranker.fit`, or memory ran out.
    """
    from recommender.datasets.periods import from_microseconds
    from recommender.engine.guard import enough_memory

    mask = data.decided_in(None, moment)
    if not mask.any():
        raise PeriodError(
            f"no pair was decided before {moment.isoformat()}, so nothing can be trained on. Move the boundary later."
        )
    with enough_memory(cls.name, context.device):
        return fit_over_horizon(
            cls,
            data.examples(mask),
            data.labels_at(moment, mask),
            data.outcomes_at(moment, mask),
            corpus=data.corpus(moment),
            config=config,
            context=context,
            earlier=earlier,
            corpus_before=lambda moment_us: data.corpus(from_microseconds(moment_us)),
            calibration_fits=calibration_fits,
            kept=kept,
        )


def boundaries(data: "TrainingSet", settings: Settings) -> dict[str, datetime]:
    """Moments of the fits, UTC and in order, from the settings or chosen from the pairs (`periods.resolve_at`).

    Raises:
        PeriodError: They are out of order, or there are too few pairs to choose from.
    """
    from recommender.datasets.moments import moment
    from recommender.datasets.periods import Pairs, resolve_at

    chosen, zone = settings.time, data.time_zone
    now = moment(chosen.as_of, zone) if chosen.as_of is not None else data.as_of

    def pairs() -> Pairs:
        starts_N, decided_N, redeemed_N = (data.times_us(name) for name in ("starts_at", "decided_at", "redeemed_at"))
        return Pairs(starts_N, decided_N, redeemed_N, data.all.campaigns_N.astype(np.int64))

    periods = resolve_at(chosen, now, zone, pairs)
    return {"gate": periods.gate_from, "test": periods.test_from, "live": periods.as_of}


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts it in KiB
    return {**seconds, **pairs, "peak_memory_mb": round(peak, 1)}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "numpy", "scikit-learn", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
