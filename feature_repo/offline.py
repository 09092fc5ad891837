"""Feast's DuckDB offline store, which `feature_store.yaml` names, able to read files in an object store.

DuckDB's own reader of s3:// is an extension that it downloads at first use; a closed cluster refuses that. So pyarrow
reads those files, at the endpoint and with the credentials that the materialise step writes them with.
"""

from typing import TYPE_CHECKING, Any

from feast.infra.offline_stores.duckdb import (
    DuckDBOfflineStore,
    DuckDBOfflineStoreConfig,
    _read_data_source,
    _write_data_source,
)
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.ibis import get_historical_features_ibis

from recommender.errors import FeatureStoreError

if TYPE_CHECKING:
    from feast.data_source import DataSource
    from feast.feature_view import FeatureView
    from feast.infra.offline_stores.offline_store import RetrievalJob
    from feast.infra.registry.base_registry import BaseRegistry
    from feast.repo_config import RepoConfig
    from ibis.expr.types import Table
    from pyarrow.dataset import Dataset


class S3DuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The store's section of `feature_store.yaml`, a class that Feast requires of every offline store."""

    type: str = "feature_repo.offline.S3DuckDBOfflineStore"


class S3DuckDBOfflineStore(DuckDBOfflineStore):
    """DuckDB over Parquet in a folder or at an address like `s3://bucket/prefix`."""

    @staticmethod
    def get_historical_features(
        config: "RepoConfig",
        feature_views: list["FeatureView"],
        feature_refs: list[str],
        entity_df: Any,
        registry: "BaseRegistry",
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> "RetrievalJob":
        """Feast's point-in-time join, over sources read by `read_source`."""
        return get_historical_features_ibis(
            config=config,
            feature_views=feature_views,
            feature_refs=feature_refs,
            entity_df=entity_df,
            registry=registry,
            project=project,
            full_feature_names=full_feature_names,
            data_source_reader=read_source,
            data_source_writer=_write_data_source,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )


def read_source(source: "DataSource", repo_path: str) -> "Table":
    """The source's Parquet as a table that DuckDB scans: by pyarrow at an address, by DuckDB itself in a folder.

    Raises:
        FeatureStoreError: the file at an address is not there or cannot be read.
    """
    if not is_remote(source):
        return _read_data_source(source, repo_path)
    import ibis

    return ibis.memtable(remote_dataset(source))


def is_remote(source: "DataSource") -> bool:
    """Whether the source's file is at an address, which DuckDB itself cannot read."""
    return isinstance(source, FileSource) and "://" in source.path


def remote_dataset(source: "DataSource") -> "Dataset":
    """The file at an address, which DuckDB scans through pyarrow.

    Raises:
        FeatureStoreError: it is not there or cannot be read.
    """
    from pyarrow import dataset, fs

    assert isinstance(source, FileSource)
    try:
        files, path = fs.FileSystem.from_uri(source.path)
        return dataset.dataset(path, filesystem=files, format="parquet")
    except (OSError, ValueError) as error:
        raise FeatureStoreError(f"{source.path}: cannot be read ({error}); materialise again") from None
