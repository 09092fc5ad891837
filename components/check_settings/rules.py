"""Refuses settings with which a later step of a run would stop. Looks at no file and no server."""

from feature_repo.environment import environment_file
from recommender.datasets.sources import source_of
from recommender.errors import BundleError, SettingsError, suggestion
from recommender.models.campaign import RANKERS, ranker_class
from recommender.settings import Settings


def check_rules(settings: Settings, *, feature_store: str | None = None) -> None:
    """Refuse settings that cannot be run anywhere.

    Args:
        settings: The settings of the run.
        feature_store: The feature store environment of the steps. None: the one of this machine.

    Raises:
        SettingsError: A ranker or hyperparameter is unknown (names the nearest one), a value is not allowed, the
            challenger cannot use the GPU or has nothing to try, a baseline or the mapping is missing, or the feature
            store environment is unknown or does not fit the online store.
    """
    training = settings.training
    if not training.baselines:
        raise SettingsError(
            "training.baselines is empty, but the last baseline is the first champion: name at least one ranker"
        )
    for key, names in (
        ("challenger", (training.challenger,)),
        ("baselines", training.baselines),
        ("rankers", training.rankers),
    ):
        for name in names:
            if name not in RANKERS:
                raise SettingsError(f"training.{key}: unknown ranker {name!r}; {suggestion(name, RANKERS)}")
    for name, given in training.rankers.items():
        try:
            ranker_class(name).Config.parse(given, owner=name)
        except SettingsError as error:
            raise SettingsError(f"training.rankers.{name}: {error}") from None
    if training.device == "cuda" and not ranker_class(training.challenger).trains_on_gpu:
        raise SettingsError(
            f"training.device is 'cuda', but the challenger {training.challenger!r} is fitted on the CPU: set 'cpu'"
        )
    if training.trials:
        _check_trials(training.challenger)
    source_of(settings.source)
    environment_file(settings, feature_store)


def _check_trials(challenger: str) -> None:
    from recommender.training.tune import require_tunable

    try:
        require_tunable(challenger)
    except (SettingsError, BundleError) as error:
        raise SettingsError(f"training.trials: {error}; set it to 0") from None
