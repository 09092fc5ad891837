"""Builds a feature set as the settings say: the periods, the engine, what is kept between builds, and the limits."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from recommender.datasets.periods import resolve
from recommender.datasets.places import Place
from recommender.datasets.tables import Tables
from recommender.features.build import build
from recommender.features.last_build import LastBuild
from recommender.features.spark import OnSpark
from recommender.features.spark.parts import new_parts
from recommender.settings import Settings, SparkSettings, choose
from recommender.storage.home import Home
from recommender.storage.ids import IdsFile
from recommender.storage.in_use import in_use


def build_as_set(
    tables: Tables, output: Path, settings: Settings, *, files: Place | None = None, target: Place | None = None
) -> datetime:
    """Build the feature set as the settings say, and return its `as_of`. What looks count is learnt before the gate.

    Args:
        tables: what to read.
        output: the folder to write.
        settings: which engine builds, and how.
        files: where Spark's executors find the tables. None: in the folder of `tables`.
        target: where the feature set is moved afterwards. They write beside it. None: it stays at `output`.

    Raises:
        PeriodError: the periods are out of order, or there are too few pairs to choose them from; else as `build`.
    """
    periods = resolve(settings, tables)
    engines: dict[str, Callable[[], OnSpark | None]] = {
        "duckdb": lambda: None,
        "spark": partial(_on_spark, tables, files, target or Place.of(str(output)), settings.features.spark),
    }
    increments = settings.features.increment and settings.features.engine == "duckdb"
    # What the last build keeps must not get users who are forgotten meanwhile.
    with in_use(Home.of(settings)):
        build(
            tables,
            output,
            as_of=periods.as_of,
            threads=settings.training.threads,
            kept_ids=IdsFile.of(settings),
            looks=settings.looks,
            learn_looks_before=periods.gate_from,
            text_cache=Home.of(settings).text_vectors,
            memory_limit=settings.resources.memory_limit,
            scratch=settings.resources.scratch,
            last=LastBuild.of(settings) if increments else None,
            late_days=settings.features.late_days,
            spark=choose(engines, settings.features.engine, "features.engine")(),
        )
    return periods.as_of


def _on_spark(tables: Tables, files: Place | None, target: Place, settings: SparkSettings) -> OnSpark:
    return OnSpark(settings=settings, tables=files or Place.of(str(tables.folder)), parts=new_parts(target))
