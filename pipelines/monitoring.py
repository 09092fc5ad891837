"""The monitoring pipeline: compares the newest features with the champion's, and fails the run where a limit breaks.

    check -> ingest -> validate -> features -> monitor -> limits

It trains nothing and materialises nothing.
"""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.check_settings.parameters import defaults
from components.monitor import monitor
from components.require_limits import require_limits
from pipelines.cluster import DATA, SMALL, Cluster, lifetime
from pipelines.steps import RETRIES, Steps
from recommender.settings import Settings

NAME = "campaign-monitoring"
TITLE = "Campaign recommendation: monitoring"
DESCRIPTION = "Drift of features, age of data, calibration of what was served. Fails where a limit is broken."


def monitoring_pipeline_for(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    retries: int = RETRIES,
    run: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER,
) -> BaseComponent:
    """The pipeline whose parameters have these settings' values as defaults. Arguments as `training_pipeline_for`."""
    steps, given = Steps(cluster=cluster, retries=retries), defaults(settings)

    @dsl.pipeline(name=NAME, display_name=TITLE, description=DESCRIPTION, pipeline_config=lifetime(cluster))
    def monitoring_pipeline(
        as_of: str = given["as_of"],
        source: str = given["source"],
        settings_override: dict = given["settings_override"],  # type: ignore[type-arg]
    ) -> None:
        """Look at what serves.

        Args:
            as_of: The moment that counts as now, as in training. Empty: features of the newest data, and ages by the
                clock.
            source: Where the data come from: complete_journey, synthetic, or the path of a mapping of your own files
                (/var/recommender/shop/mapping.toml).
            settings_override: Other settings of this run, by section: {"monitoring": {"max_psi": 0.5}}.
        """
        own: dict[str, Any] = {"as_of": as_of, "source": source, "settings_override": settings_override}
        known = steps.featured(settings, given | own)
        looked = monitor(settings=known.derived["settings"], run=run, features=known.features, tables=known.tables)
        steps.placed(looked, "Compare with training, promises and what came", DATA, cached=False)
        judged = require_limits(report=looked.outputs["report"])
        steps.placed(judged, "Fail where a limit is broken", SMALL, cached=False)

    return monitoring_pipeline
