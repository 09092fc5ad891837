"""Feast's entities, sources, views and service, made from the columns that a feature set really has.

user_base … user_consumption       one view for each portrait kind that the source has (float32)
user_affinity, user_history        affinities that a campaign is joined with, and the last baskets (bytes)
user_serving                       all of the above as one value: what serving reads, and the only view that is online
campaign_features, item_features   serving holds campaigns and items in memory (the catalogue)
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.errors import ContractError
from recommender.matching.packed_user import PORTRAIT_KINDS, layout_of
from recommender.storage.home import PACKED_USERS_FILE, USERS_FILE

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureService, FeatureView

SERVICE = "campaign_ranker"
"""First part of a feature service's name. The version follows (`service_name`)."""
SERVING_VIEW = "user_serving"
SERVING_FIELD = "packed"
PUSH_SOURCE = "user_events"
"""`FeatureStore.push` to it writes packed values of users whom something just happened to."""
BLOBS = ("affinity", "history")
TIMESTAMP = "event_timestamp"
FILES = {
    "user": USERS_FILE,
    "campaign": "campaigns.parquet",
    "item": "items.parquet",
    SERVING_VIEW: PACKED_USERS_FILE,
}
"""Entity or view -> its Parquet file, in a feature set and in Feast's offline folder."""


@dataclass(frozen=True)
class Definitions:
    """Everything that is applied together."""

    entities: list[Any]
    sources: list[Any]
    serving_view: "FeatureView"
    """The one view that is written online."""
    offline_views: list["FeatureView"]
    """Portrait kinds, affinity and history, campaigns and items."""
    service: "FeatureService"

    @property
    def views(self) -> list["FeatureView"]:
        """All views."""
        return [self.serving_view, *self.offline_views]

    @property
    def everything(self) -> list[Any]:
        """All objects, as `FeatureStore.apply` takes them."""
        return [*self.entities, *self.sources, *self.views, self.service]


def portrait_names(schema: "pa.Schema") -> tuple[str, ...]:
    """The portrait columns of `users.parquet`, in file order: `<kind>__<name>`, float32.

    Raises:
        ContractError: a column of another kind or dtype, or a missing key, time or blob.
    """
    import pyarrow as pa

    expected = {"user_id": pa.string(), TIMESTAMP: pa.timestamp("us", tz="UTC"), **dict.fromkeys(BLOBS, pa.binary())}
    for name, dtype in expected.items():
        if name not in schema.names:
            raise ContractError("users.parquet", "missing; build the features again", column=name)
        if schema.field(name).type != dtype:
            raise ContractError("users.parquet", f"is {schema.field(name).type}, must be {dtype}", column=name)
    names = tuple(name for name in schema.names if name not in expected)
    for name in names:
        if name.partition("__")[0] not in PORTRAIT_KINDS or "__" not in name:
            raise ContractError(
                "users.parquet",
                f"its name must start with a portrait kind and two underscores ({', '.join(PORTRAIT_KINDS)})",
                column=name,
            )
        if schema.field(name).type != pa.float32():
            raise ContractError("users.parquet", f"is {schema.field(name).type}, must be float32", column=name)
    if not names:
        raise ContractError("users.parquet", "holds no portrait column; build the features again")
    return names


def service_name(names: tuple[str, ...]) -> str:
    """The feature service of models trained on these portrait columns: `campaign_ranker_<layout>`.

    The layout identifies the columns in their order, as in packed values. So models that were trained on the same
    columns share a service, and a model never reads a service whose columns changed.
    """
    return f"{SERVICE}_{layout_of(names).hex()}"


def define(offline: str, read_schema: Path) -> Definitions:
    """The definitions for one feature set.

    Args:
        offline: folder or s3:// prefix of the Parquet files that Feast reads.
        read_schema: folder of the same files on this machine, from which the columns are read.
    """
    import pyarrow.parquet as pq
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
    from feast.types import Bytes, Float32

    entities = {
        name: Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.STRING)
        for name in ("user", "campaign", "item")
    }
    sources = {
        name: FileSource(name=f"{name}_offline", path=f"{offline}/{file}", timestamp_field=TIMESTAMP)
        for name, file in FILES.items()
    }

    pushed = PushSource(name=PUSH_SOURCE, batch_source=sources[SERVING_VIEW])

    def view(name: str, entity: str, fields: list[Field]) -> FeatureView:
        # No time-to-live: Feast does not enforce one on reads; serving checks the age itself.
        return FeatureView(
            name=name,
            entities=[entities[entity]],
            schema=fields,
            source=sources[entity],
            ttl=timedelta(0),
            online=False,
        )

    names = portrait_names(pq.read_schema(read_schema / FILES["user"]))
    by_kind = {kind: [name for name in names if name.startswith(f"{kind}__")] for kind in PORTRAIT_KINDS}
    user_views = [
        view(f"user_{kind}", "user", [Field(name=name, dtype=Float32) for name in columns])
        for kind, columns in by_kind.items()
        if columns
    ] + [view(f"user_{blob}", "user", [Field(name=blob, dtype=Bytes)]) for blob in BLOBS]
    offline_views = []
    for entity in ("campaign", "item"):
        columns = [
            name
            for name in pq.read_schema(read_schema / FILES[entity]).names
            if name not in (f"{entity}_id", TIMESTAMP)
        ]
        if columns:
            fields = [Field(name=name, dtype=Float32) for name in columns]
            offline_views.append(view(f"{entity}_features", entity, fields))
    return Definitions(
        entities=[*entities.values()],
        sources=[*sources.values(), pushed],
        serving_view=FeatureView(
            name=SERVING_VIEW,
            entities=[entities["user"]],
            schema=[Field(name=SERVING_FIELD, dtype=Bytes)],
            source=pushed,
            ttl=timedelta(0),
            online=True,
        ),
        offline_views=[*user_views, *offline_views],
        service=FeatureService(name=service_name(names), features=[*user_views]),
    )
