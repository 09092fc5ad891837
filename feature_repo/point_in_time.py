"""Point-in-time joins by DuckDB's ASOF join: what Feast's own join answers, several times faster.

Feast joins each view by itself, although ours read one file, and ranks all earlier rows to find the newest. A test
compares every column with Feast's answer.
"""

from typing import TYPE_CHECKING, Any

from feature_repo.definitions import TIMESTAMP
from feature_repo.offline import is_remote, remote_dataset

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureService, FeatureStore

KEY = "user_id"


def join_as_of(store: "FeatureStore", service: "FeatureService", moments: "pa.Table") -> "pa.Table":
    """Each moment with the newest row of its user that is not after it, or with nulls where there is none.

    Args:
        store: Where the service's views are.
        service: Its features become columns, in its order. Its views are those of users.
        moments: user_id and event_timestamp.

    Returns:
        As many rows as `moments`, in any order.
    """
    import duckdb

    by_source: dict[str, list[str]] = {}
    sources = {}
    for projection in service.feature_view_projections:
        source: Any = store.get_feature_view(projection.name).batch_source
        sources[source.name] = source
        by_source.setdefault(source.name, []).extend(feature.name for feature in projection.features)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("moments", moments)
        selected, joins = [f"moments.{KEY}", f"moments.{TIMESTAMP}"], ""
        for number, (name, columns) in enumerate(by_source.items()):
            if is_remote(sources[name]):
                connection.register(f"rows_{number}", remote_dataset(sources[name]))
            else:
                connection.read_parquet(sources[name].path).create_view(f"rows_{number}")
            selected += [f'rows_{number}."{column}"' for column in columns]
            joins += (
                f" ASOF LEFT JOIN rows_{number} ON moments.{KEY} = rows_{number}.{KEY}"
                f" AND moments.{TIMESTAMP} >= rows_{number}.{TIMESTAMP}"
            )
        return connection.execute(f"SELECT {', '.join(selected)} FROM moments{joins}").to_arrow_table()
