"""Derives what each kind of step reads from a run's one settings object, and the identity of the code that it runs.

A step's cache key is all that it is given. So it is given only the settings that can change its result: a changed port
or canary share makes no step run again that is cached, and another challenger trains no baseline again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.datasets.sources import source_module
from recommender.models.campaign import ranker_modules
from recommender.settings import FeatureSettings, Settings, TrainingSettings
from recommender.storage.code_identity import code_identity

TRAIN = "components.train_ranker"
"""Module of the step that trains. The others are named in `Derived.of`."""
NO_CACHED_STEP_READS = ("serving", "decision_log", "events", "isolation", "monitoring", "retention", "cluster")


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Settings as JSON and code identities, by the steps that read them."""

    settings: str
    """All of them, for the steps that are never cached."""
    source_settings: str
    """For the step that reads the source."""
    data_settings: str
    """For the other steps before training."""
    challenger: str
    challenger_settings: str
    baselines: list[dict[str, str]]
    """`ranker`, `settings` and `code_version` of each baseline."""
    code: dict[str, str]
    """Step -> identity of its code in this image."""

    @classmethod
    def of(cls, settings: Settings) -> "Derived":
        """What a run with these settings needs."""
        challenger = settings.training.challenger
        return cls(
            settings=settings.model_dump_json(),
            source_settings=for_source(settings).model_dump_json(),
            data_settings=for_data(settings).model_dump_json(),
            challenger=challenger,
            challenger_settings=for_training(settings, challenger, challenges=True).model_dump_json(),
            baselines=[
                {
                    "ranker": name,
                    "settings": for_training(settings, name, challenges=False).model_dump_json(),
                    "code_version": code_identity(TRAIN, *ranker_modules(name)),
                }
                for name in settings.training.baselines
            ],
            code={
                "ingest": code_identity("components.ingest", source_module(settings.source)),
                "validate_data": code_identity("components.validate_data.component"),
                "build_features": code_identity("components.build_features"),
                "build_training_set": code_identity("components.build_training_set"),
                "train_ranker": code_identity(TRAIN, *ranker_modules(challenger)),
            },
        )


def for_source(settings: Settings) -> Settings:
    """Only what the step reads that reads the source: no period, so that another as_of reads no data again."""
    return Settings(
        home=settings.home,
        judgement=Path(),
        source=settings.source,
        # Late events are its own. Which engine builds the features afterwards changes no table.
        features=FeatureSettings(late_days=settings.features.late_days),
        resources=settings.resources,
        **_unread("time", "looks", "training", "store", *NO_CACHED_STEP_READS),
    )


def for_data(settings: Settings) -> Settings:
    """Only what the steps between the source and training read."""
    return Settings(
        home=settings.home,
        judgement=Path(),
        source=settings.source,
        time=settings.time,
        looks=settings.looks,
        features=settings.features,
        training=TrainingSettings(threads=settings.training.threads),
        store=settings.store,
        resources=settings.resources,
        **_unread(*NO_CACHED_STEP_READS),
    )


def for_training(settings: Settings, ranker: str, *, challenges: bool) -> Settings:
    """Only what the training of one ranker reads. The device and the trials are the challenger's alone.

    What looks count is read too: it changes the training set, while the data's hash stays.
    """
    training = settings.training
    own = TrainingSettings(
        challenger=ranker,
        baselines=(ranker,),
        trials=training.trials if challenges else 0,
        device=training.device if challenges else "cpu",
        seed=training.seed,
        checkpoint_every_s=training.checkpoint_every_s,
        calibration_fits=training.calibration_fits,
        rankers={ranker: training.rankers[ranker]} if ranker in training.rankers else {},
    )
    return Settings(
        home=settings.home,
        judgement=Path(),
        time=settings.time,
        looks=settings.looks,
        training=own,
        **_unread("source", "features", "store", "resources", *NO_CACHED_STEP_READS),
    )


def _unread(*sections: str) -> dict[str, Any]:
    """Sections that a step does not read, with their defaults: given by name, because a step refuses a missing one."""
    return {name: Settings.model_fields[name].default for name in sections}
