"""Settings of the features: how late events still count, and which engine builds them."""

from typing import Literal

from pydantic import Field

from recommender.settings.sections import Section


class SparkSettings(Section):
    """Spark, where `features.engine` is `spark`. What `spark-submit` or an operator states wins over these."""

    master: str = Field(
        "local[2]",
        description="Spark's master, such as local[4]: threads of the step's own machine. A SparkApplication and "
        "`spark-submit` state their own.",
    )
    buckets: int = Field(
        8,
        ge=1,
        le=100_000,
        description="Parts of the users, by a hash of their identifier. One task builds one part, whose rows must fit "
        "the memory of an executor. The result is the same for any number.",
    )
    conf: dict[str, str] = Field(
        default_factory=dict, description='Further configuration of Spark: {"spark.executor.memory" = "4g"}.'
    )


class FeatureSettings(Section):
    """How the features follow the log from day to day, and what builds them. The result is the same on every engine."""

    late_days: int = Field(
        30,
        ge=0,
        le=3_650,
        description="Days that a day stays open after the last run's newest event: until then late rows, corrections "
        "and returns count at once. Later ones are set aside until `recommender backfill` accepts their days. The "
        "default is by hand: shops take goods back for a month. 0: everything counts whenever it comes.",
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="`duckdb`: on one machine. `spark`: needs the extra `spark`, and on a cluster its image."
    )
    spark: SparkSettings = SparkSettings()
