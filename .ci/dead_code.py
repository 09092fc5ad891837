"""List unused code with vulture and exit with 1 if there is any. Code that only tests call counts as unused.

Vulture reports names that occur nowhere but in their definition. Names that a framework calls, or that the project
looks up in a table, are listed here as exceptions.
"""

import sys

from vulture import Vulture

from recommender.datasets.sources import SOURCES
from recommender.models.behaviour import FORECASTS
from recommender.models.campaign import OWN_RANKERS
from recommender.models.next_item import ITEM_RANKERS

PATHS = ("recommender", "components", "pipelines", "serving", "feature_repo", "cli", "benchmarks")
# The peers' scripts run in separate environments, and the peers' frameworks call them.
EXCLUDED = ("benchmarks/peers",)
MIN_CONFIDENCE = 60
"""The confidence that vulture gives to unused functions, classes and variables, its smallest one."""

DECORATORS = (
    *("@*.command", "@*.callback"),  # Typer
    *("@*.get", "@*.post", "@*.exception_handler", "@*.middleware"),  # FastAPI
    *("@field_validator", "@model_validator", "@field_serializer"),  # pydantic
)
HOOKS = (
    "model_config",  # pydantic
    "code_version",  # a parameter of KFP components, which is part of the cache key
    *("code_of_*", "accelerators"),  # outputs of the KFP component `check_settings`
    *("operator", "effect"),  # of a toleration, written as a whole (Kubernetes)
    "formatwarning",  # warnings
    "typechecked",  # typeguard
    *("trace", "traceback"),  # third argument of __exit__
    *("connection_made", "data_received", "connection_lost"),  # asyncio.Protocol
    *("disconnected", "total_requests", "should_exit"),  # attributes that uvicorn reads
    *("shouldRollover", "logThreads", "logProcesses", "logMultiprocessing", "_srcfile"),  # logging
    *("on_body", "on_message_complete"),  # httptools
    *("CampaignRankerHandler", "initialize", "handle"),  # TorchServe
    *("CampaignRanker", "predict", "unload"),  # MLServer
    *("S3DuckDBOfflineStore", "S3DuckDBOfflineStoreConfig"),  # Feast, by the name in feature_store.yaml
    *("OrderedSqliteOnlineStore", "OrderedSqliteOnlineStoreConfig", "OrderedRedisOnlineStore"),  # likewise
    *("OrderedRedisOnlineStoreConfig", "OrderedPostgresOnlineStore", "OrderedPostgresOnlineStoreConfig"),
    "_register_in_memory_table",  # of a backend: Ibis calls it
    "__getattr__",  # of a module: Python calls it for a name that is not there yet
    "get_historical_features",  # of an offline store: Feast calls it
    "dwell_s",  # a field of an event over HTTP, which the log writes whole
    "*_pipeline_for",  # `pipelines.named` finds it by the pipeline's name
    "measured_step",  # what the benchmark's child process runs
    *("DataSource", "RetrievalJob", "BaseRegistry"),  # in annotations written as strings
    *("sampler", "progress_bars", "external_attr"),  # attributes of Optuna, Great Expectations, zipfile
    "BOTH",  # a choice of a command-line option
)
FIELDS = ("by_chance", "joined_at", "labels_known_at", "features_hash", "num_clusters", "place_by_score")
"""Fields of JSON documents and results that only people read."""
DOCUMENTED = ("read_decisions", "read_exposures")
"""Readers of the decision log that docs/serving.md offers to people who analyse it, and what the gateway will call."""


def main() -> int:
    """Print unused code and return the exit code."""
    by_name = (*SOURCES.values(), *OWN_RANKERS.values(), *ITEM_RANKERS.values(), *FORECASTS.values())
    looked_up = [place.split(":")[1] for place in by_name]
    finder = Vulture(ignore_names=[*HOOKS, *FIELDS, *DOCUMENTED, *looked_up], ignore_decorators=list(DECORATORS))
    finder.scavenge(PATHS, exclude=[f"*/{path}/*" for path in EXCLUDED])
    unused = finder.get_unused_code(min_confidence=MIN_CONFIDENCE)
    for item in unused:
        print(item.get_report())
    return 1 if unused else 0


if __name__ == "__main__":
    sys.exit(main())
