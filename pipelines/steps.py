"""The first steps of each of our pipelines: check the run, read and validate the source, build the features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components.build_features import build_features
from components.check_settings.component import check_settings
from components.check_settings.parameters import base_settings
from components.ingest import ingest
from components.validate_data.component import validate_data
from pipelines.cluster import DATA, FEATURES, SMALL, Cluster, Size, place, place_engine, places
from recommender.settings import Settings

RETRIES = 2
"""Attempts after the first, for pods that are lost (a drained node, an eviction). Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Featured:
    """Outputs of the first steps."""

    derived: Mapping[str, Any]
    """Of the first one: settings and code identities."""
    of_data: Mapping[str, Any]
    """The settings that the steps between the source and training read."""
    tables: Any
    validation_page: Any
    features: Any
    data_hash: Any


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Gives each step its name, caching, retries, size and pod."""

    cluster: Cluster | None
    """None on this machine."""
    retries: int = RETRIES

    def placed(self, task: dsl.PipelineTask, title: str, size: Size, *, cached: bool) -> dsl.PipelineTask:
        """Place one step."""
        task.set_display_name(title).set_caching_options(enable_caching=cached)
        if self.retries:
            # 30 s, then a minute: a lost node is replaced within minutes. Chosen by hand.
            task.set_retry(
                num_retries=self.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s"
            )
        return place(task, size, self.cluster)

    def featured(self, settings: Settings, given: Mapping[str, Any]) -> Featured:
        """Add the first steps.

        Args:
            settings: of the pipeline's runs.
            given: a value for each parameter of the first step: the run's own, or what the settings say.
        """
        checked = check_settings(base=base_settings(settings), places=places(self.cluster), **given)
        self.placed(checked, "Check the settings and the cluster", SMALL, cached=False)
        derived = checked.outputs

        read = ingest(
            settings=derived["source_settings"],
            source_identity=derived["source_identity"],
            code_version=derived["code_of_ingest"],
        )
        self.placed(read, "Read the source into tables", DATA, cached=True)

        of_data: dict[str, Any] = {"settings": derived["data_settings"]}
        valid = validate_data(
            **of_data,
            source_identity=derived["source_identity"],
            code_version=derived["code_of_validate_data"],
            data_hash=read.outputs["Output"],
            raw=read.outputs["tables"],
        )
        self.placed(valid, "Validate the tables", DATA, cached=True)
        tables, data_hash = valid.outputs["tables"], valid.outputs["Output"]

        featured = build_features(
            **of_data, code_version=derived["code_of_build_features"], data_hash=data_hash, tables=tables
        )
        self.placed(featured, "Build features as of each decision", FEATURES, cached=True)
        place_engine(featured, settings.features.engine, self.cluster)
        return Featured(
            derived=derived,
            of_data=of_data,
            tables=tables,
            validation_page=valid.outputs["page"],
            features=featured.outputs["features"],
            data_hash=data_hash,
        )
