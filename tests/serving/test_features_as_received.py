"""What the running handler scores is what training saw: the same bits."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from conftest import Endpoint, float32

from recommender.matching.examples import Shopper, build


def test_a_thousand_users_features_reach_the_handler_bit_for_bit(endpoint: Endpoint) -> None:
    table = pq.read_table(endpoint.shop.features / "users.parquet")
    table = table.filter(pc.field("event_timestamp") == pa.scalar(endpoint.shop.as_of, pa.timestamp("us", tz="UTC")))
    names = tuple(name for name in table.column_names if "__" in name)
    portraits = np.column_stack([table[name].to_numpy().astype(np.float32) for name in names])
    catalogue, as_of_us = endpoint.shop.catalogue, round(endpoint.shop.as_of.timestamp() * 1e6)
    assert table.num_rows == len(endpoint.shop.users) >= 1000
    for row, (user, affinity, history) in enumerate(
        zip(*(table[name].to_pylist() for name in ("user_id", "affinity", "history")), strict=True)
    ):
        received = endpoint.predict({"user_id": user, "return_features": True, "num_items": 0}).json()["features"]
        campaigns, unknown = catalogue.rows(received["campaign_ids"])
        offline = build(
            [Shopper(user, portraits[row], names, affinity, history, as_of_us)],
            np.zeros(len(campaigns), dtype=np.int32),
            campaigns,
            catalogue,
            np.full(len(campaigns), as_of_us, dtype=np.int64),
        )
        assert unknown == []
        assert tuple(received["names"]) == offline.feature_names
        assert float32(received).tobytes() == canonical(offline.features_NF).tobytes(), user


def canonical(features: np.ndarray) -> np.ndarray:
    """Missing numbers are the one NaN that the online store writes."""
    return np.where(np.isnan(features), np.float32(np.nan), features).astype("<f4")
