"""The offline side: users' features as they were at each decision, read point-in-time by a feature service."""

from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.definitions import FILES, TIMESTAMP, portrait_names, service_name
from feature_repo.environment import open_store, store_folder
from feature_repo.materialisation import as_of_of
from feature_repo.point_in_time import join_as_of
from recommender.errors import FeatureStoreError, PeriodError
from recommender.settings import Settings
from recommender.storage.manifest import SHOWN_DIGITS, read_manifest

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from recommender.datasets.tables import Tables


def training_frame(features: Path, settings: Settings) -> "pa.Table":
    """Users' features at each decision: user_id, event_timestamp (µs UTC), portrait, affinity, history.

    One row for every user and decision time of the pairs.

    They are the features of the service of these columns: the newest row of the user that is not after the decision. A
    user without one has nulls.

    Raises:
        FeatureStoreError: the store holds another feature set; materialise this one first.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    offline = store_folder(settings).offline
    stored = read_manifest(offline)["features_hash"]
    wanted = read_manifest(features)["content_hash"]
    if stored != wanted:
        raise FeatureStoreError(
            f"{offline} holds the features {stored[:SHOWN_DIGITS]}, not {wanted[:SHOWN_DIGITS]} of {features}; "
            "materialise first"
        )
    pairs = pq.read_table(features / "pairs.parquet", columns=["user_id", "decided_at"])
    # Two campaigns at one moment are one decision time. Asked for it twice, Feast would answer twice.
    moments = pairs.group_by(["user_id", "decided_at"]).aggregate([]).rename_columns(["user_id", TIMESTAMP])
    moments = moments.sort_by([("user_id", "ascending"), (TIMESTAMP, "ascending")])
    store, schema = open_store(settings), pq.read_schema(features / FILES["user"])
    names = portrait_names(schema)
    frame = join_as_of(store, store.get_feature_service(service_name(names)), moments)
    columns = ["user_id", TIMESTAMP, *names, "affinity", "history"]
    frame = frame.select(columns).cast(pa.schema([schema.field(name).remove_metadata() for name in columns]))
    return frame.sort_by([("user_id", "ascending"), (TIMESTAMP, "ascending")])


def build_training_set(features: Path, tables: Path, settings: Settings, output: Path) -> None:
    """Write the training set to `output`: pairs, their users' features at each decision, catalogue, histories.

    Raises:
        FeatureStoreError: the store holds another feature set; materialise this one first.
    """
    import pyarrow.parquet as pq

    from recommender.datasets.tables import open_tables
    from recommender.features.training_set import write_training_set
    from recommender.matching.catalogue import Catalogue
    from recommender.monitoring.reference import Reference

    users = training_frame(features, settings)
    pairs = pq.read_table(features / "pairs.parquet")
    catalogue = Catalogue.load(features / "catalogue")
    opened, as_of = open_tables(tables), as_of_of(features)
    everyone = pq.read_table(features / FILES["user"])
    write_training_set(
        users,
        pairs,
        catalogue,
        opened,
        output,
        as_of=as_of,
        feature_service=service_name(portrait_names(everyone.schema)),
        list_bounds=_list_bounds(settings, opened),
        reference=Reference.of(everyone, catalogue, as_of=as_of, data_hash=opened.data_hash).text(),
    )


def _list_bounds(settings: Settings, tables: "Tables") -> list["datetime"]:
    """Bounds of the periods for which lists are kept. None where the data has no periods: nothing is evaluated there.

    A run without periods ends at its features already.
    """
    from recommender.datasets.periods import resolve

    try:
        periods = resolve(settings, tables)
    except PeriodError:
        return []
    return [periods.gate_from, periods.test_from, periods.as_of]
