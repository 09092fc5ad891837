"""Checks of the settings before a run or a compiled pipeline exists, so that a mistake costs seconds.

The pipeline's first step makes the same checks with the parameters of its run, and looks at the cluster too.
"""

from components.check_settings.rules import check_rules
from recommender.evaluation.judgement import read_judgement
from recommender.settings import Settings


def check_before_run(settings: Settings) -> None:
    """Refuse settings with which a later step of a run on this machine would stop.

    Raises:
        SettingsError: As `check_before_compiling`, or the judgement file is missing or wrong.
    """
    check_before_compiling(settings)
    read_judgement(settings.judgement)


def check_before_compiling(settings: Settings, *, feature_store: str | None = None) -> None:
    """Refuse settings with which a later step would stop, wherever it runs. The files of a cluster are not looked at.

    Args:
        settings: The settings of the run.
        feature_store: The feature store environment of the steps. None: the one of this machine.

    Raises:
        SettingsError: As `components.check_settings.rules.check_rules`.
    """
    check_rules(settings, feature_store=feature_store)
