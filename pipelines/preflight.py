"""Checks of the settings before a run on this machine exists, so that a mistake costs seconds.

The pipeline's first step makes the same checks with the parameters of its run, and looks at the cluster too.
"""

from components.check_settings.rules import check_rules
from recommender.evaluation.judgement import read_judgement
from recommender.settings import Settings


def check_before_run(settings: Settings) -> None:
    """Refuse settings with which a later step of a run on this machine would stop.

    Raises:
        SettingsError: As `components.check_settings.rules.check_rules`, or the judgement file is missing or wrong.
    """
    check_rules(settings)
    read_judgement(settings.judgement)
