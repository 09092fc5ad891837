"""Identity of a trained ranker: hashes of the settings and the code that can change it, and its checkpoint folder."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.models.campaign import ranker_modules
from recommender.settings import Settings
from recommender.storage.code_identity import code_identity
from recommender.storage.home import Home
from recommender.storage.manifest import NAME_DIGITS, digest

if TYPE_CHECKING:
    from recommender.features.training_set import TrainingSet

CODE_OF_TRAINING = ("recommender.training.train", "recommender.features.build", "recommender.features.training_set")
"""Modules from which everything is reached that turns tables into a training set and a training set into a bundle."""


def training_code(ranker: str) -> str:
    """Identity of the code that can change a trained `ranker`: features, training set, engine, its own modules."""
    return code_identity(*CODE_OF_TRAINING, *ranker_modules(ranker))


def training_hash(settings: Settings, ranker: str) -> str:
    """Hash of the settings that change a trained `ranker`: hyperparameters as configured, seed, device, time, looks.

    Defaults that are left out are not part of it, and neither are paths, ports, threads or other rankers'
    hyperparameters.
    """
    training = settings.training
    own = {"seed": training.seed, "device": training.device, "config": training.rankers.get(ranker, {})}
    return digest({**own, **_calibration(settings), **_looks(settings)}, settings.time.model_dump(mode="json"))


def checkpoint_folder(
    home: Path, ranker: str, data: "TrainingSet", settings: Settings, moment: datetime, *, earlier: bool
) -> Path:
    """Folder of a fit's work, named by everything that decides its weights and never by the step that runs it."""
    from recommender.engine.precision import cpu_has_units

    config, where = settings.training.rankers.get(ranker, {}), (settings.training.device, cpu_has_units())
    config = {**config, **_calibration(settings)}
    inputs = (data.manifest["content_hash"], config, settings.training.seed, where, training_code(ranker))
    moments = [settings.time.model_dump(mode="json"), moment.isoformat(), earlier]
    return Home(home).checkpoint(f"{ranker}-{digest(inputs, moments)[:NAME_DIGITS]}")


def _calibration(settings: Settings) -> dict[str, int]:
    """The setting of the calibration where there is one."""
    fits = settings.training.calibration_fits
    return {} if fits is None else {"calibration_fits": fits}


def _looks(settings: Settings) -> dict[str, Any]:
    """What looks count, where it is set: it changes the features, while the data's hash stays."""
    given = settings.looks.model_dump(mode="json", exclude_defaults=True)
    return {"looks": given} if given else {}
