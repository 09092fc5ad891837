"""Starts Spark for one build, or joins the one that `spark-submit` started."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from recommender.features.spark.java import environment
from recommender.settings import SparkSettings

NAME = "campaign-features"
FIXED = {
    # Features are of UTC. Without it, Spark reads moments in the machine's zone.
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.showConsoleProgress": "false",
}
"""What the results or the logs depend on, whatever else is configured."""


@contextmanager
def session(settings: SparkSettings, scratch: Path | None) -> Iterator[SparkSession]:
    """A session that ends with the block.

    Args:
        settings: master and configuration, where `spark-submit` has not stated them.
        scratch: the folder for temporary files of this machine, by default the system's.
    """
    with tempfile.TemporaryDirectory(prefix="spark-", dir=scratch, ignore_cleanup_errors=True) as folder:
        os.environ.update(environment(Path(folder)))
        builder = SparkSession.builder.appName(NAME)
        if "PYSPARK_GATEWAY_PORT" not in os.environ:  # else the JVM of `spark-submit` runs already, with its own
            builder = builder.master(settings.master).config("spark.local.dir", folder)
        for name, value in {**settings.conf, **FIXED}.items():
            builder = builder.config(name, value)
        started = builder.getOrCreate()
        try:
            yield started
        finally:
            started.stop()
