"""The refresh pipeline: brings the newest features to serving, and trains nothing.

    check -> ingest -> validate -> features -> materialise

A feature set with other columns than what serves was trained on is refused before anything is materialised.
"""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.check_settings.parameters import defaults
from components.materialise import materialise
from pipelines.cluster import DATA, Cluster, lifetime
from pipelines.steps import RETRIES, Steps
from recommender.settings import Settings

NAME = "campaign-refresh"
TITLE = "Campaign recommendation: refresh"
DESCRIPTION = "Brings the newest features and campaigns to serving. Trains nothing."


def refresh_pipeline_for(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    retries: int = RETRIES,
    run: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER,
) -> BaseComponent:
    """The pipeline whose parameters have these settings' values as defaults. Arguments as `training_pipeline_for`.

    `run` names nothing here: a refresh publishes nothing.
    """
    steps, given = Steps(cluster=cluster, retries=retries), defaults(settings)

    @dsl.pipeline(name=NAME, display_name=TITLE, description=DESCRIPTION, pipeline_config=lifetime(cluster))
    def refresh_pipeline(
        as_of: str = given["as_of"],
        source: str = given["source"],
        settings_override: dict = given["settings_override"],  # type: ignore[type-arg]
    ) -> None:
        """Refresh the features that serving reads.

        Args:
            as_of: The moment that counts as now: a date (2017-12-31) or a time (2017-12-31T18:00), in the shop's time
                zone. Empty: the moment of the newest data.
            source: Where the data come from: complete_journey, synthetic, or the path of a mapping of your own files
                (/var/recommender/shop/mapping.toml).
            settings_override: Other settings of this run, by section: {"resources": {"threads": 4}}.
        """
        own: dict[str, Any] = {"as_of": as_of, "source": source, "settings_override": settings_override}
        known = steps.featured(settings, given | own)
        stored = materialise(settings=known.derived["settings"], data_hash=known.data_hash, features=known.features)
        steps.placed(stored, "Materialise for training and serving", DATA, cached=False)

    return refresh_pipeline
