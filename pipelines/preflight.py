"""What can be known to be wrong before the first step runs: a mistake in the settings costs seconds, not a training."""

from pathlib import Path

from recommender.datasets.sources import source_of
from recommender.errors import SettingsError
from recommender.evaluation.judgement import read_judgement
from recommender.models.campaign import RANKERS, defaults_of, ranker_class
from recommender.models.dials import check_dials
from recommender.settings import Settings


def check_before_run(settings: Settings) -> None:
    """Refuse settings that some later step would refuse.

    Raises:
        SettingsError: an unknown ranker or dial, a dial's value that cannot be, a GPU for a challenger that has no use for it, no
            baseline, no mapping, or a judgement file that is missing or wrong; names it.
    """
    training = settings.training
    if not training.baselines:
        raise SettingsError(
            "training.baselines is empty: the last baseline is the first champion, so name at least one"
        )
    for key, names in (("challenger", (training.challenger,)), ("baselines", training.baselines)):
        for name in names:
            if name not in RANKERS:
                raise SettingsError(f"training.{key}: no ranker is called {name!r}; there are {', '.join(RANKERS)}")
    for name, dials in training.rankers.items():
        if name not in RANKERS:
            raise SettingsError(f"training.rankers.{name}: no ranker is called that; there are {', '.join(RANKERS)}")
        try:
            check_dials(name, defaults_of(name), dials)
        except SettingsError as error:
            raise SettingsError(f"training.rankers.{name}: {error}") from None
    if training.device == "cuda" and not ranker_class(training.challenger).trains_on_gpu:
        raise SettingsError(
            f"training.device is 'cuda', but the challenger {training.challenger!r} is fitted on the CPU; say 'cpu'"
        )
    source_of(settings.source)
    read_judgement(Path(settings.judgement))
