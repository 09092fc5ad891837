"""A core part of the features as one writes it by hand with pandas and with Polars, in a process of its own.

For every user at one moment: purchase lines, baskets and money paid in windows of 7 to 365 days, other events by kind
in windows of 7 to 90 days, and lines and money by user and value on each axis of the taxonomy, all written to Parquet.
That is the core of what `recommender.features.build` computes for each decision, without its other features, labels,
histories, packed vectors and campaigns.

Polars is no dependency of this project. Its figures need `pip install polars` in the environment of the benchmark.
"""

import importlib
import importlib.util
import sys
from datetime import timedelta
from pathlib import Path

from benchmarks.features.worlds import AS_OF
from benchmarks.ingest.child import ChildFailed, Measured, measure

WINDOWS, KIND_WINDOWS = (7, 30, 90, 180, 365), (7, 30, 90)
AXES = ("item_id", "product_type", "category", "department", "brand")
COLUMNS = ["user_id", "kind", "event_time", "item_id", "basket_id", "amount"]
ENGINES = ("pandas", "polars")


def measured_with(engine: str, tables: Path, folder: Path, *, limit_gib: float) -> Measured | str:
    """What the part costs, or why there is no figure."""
    if importlib.util.find_spec(engine) is None:
        return f"{engine} is not installed; get it with: pip install {engine}"
    folder.mkdir(parents=True)
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "benchmarks.features.frames", engine, str(tables), str(folder)]
    environment = {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
    try:
        return measure(command, folder, environment=environment, limit_gib=limit_gib)
    except ChildFailed as error:
        return f"{engine} did not finish: {str(error).splitlines()[0].rpartition(': ')[2]}"


def by_pandas(tables: Path, folder: Path) -> None:
    """The part with pandas."""
    import pandas as pd

    events = pd.read_parquet(tables / "events", columns=COLUMNS)
    events = events[events["event_time"] < AS_OF]
    bought = events[events["kind"] == "purchase"].assign(cents=lambda rows: (rows["amount"] * 100).round())
    for days in WINDOWS:
        inside = bought[bought["event_time"] >= AS_OF - timedelta(days=days)].groupby("user_id")
        sums = inside.agg(lines=("cents", "size"), cents=("cents", "sum"), baskets=("basket_id", "nunique"))
        sums.to_parquet(folder / f"bought_{days}.parquet")
    for days in KIND_WINDOWS:
        recent = events[events["event_time"] >= AS_OF - timedelta(days=days)]
        recent.groupby(["user_id", "kind"]).size().to_frame("events").to_parquet(folder / f"kinds_{days}.parquet")
    lines = bought.merge(pd.read_parquet(tables / "items"), on="item_id")
    for axis in AXES:
        values = lines.groupby(["user_id", axis]).agg(lines=("cents", "size"), cents=("cents", "sum"))
        values.to_parquet(folder / f"by_{axis}.parquet")


def by_polars(tables: Path, folder: Path) -> None:
    """The part with Polars' lazy frames, written by its streaming engine."""
    pl = importlib.import_module("polars")
    events = pl.scan_parquet(str(tables / "events" / "*.parquet")).select(COLUMNS).filter(pl.col("event_time") < AS_OF)
    bought = events.filter(pl.col("kind") == "purchase").with_columns(cents=(pl.col("amount") * 100).round())
    sums = {"lines": pl.len(), "cents": pl.col("cents").sum()}
    for days in WINDOWS:
        inside = bought.filter(pl.col("event_time") >= AS_OF - timedelta(days=days)).group_by("user_id")
        inside.agg(**sums, baskets=pl.col("basket_id").n_unique()).sink_parquet(folder / f"bought_{days}.parquet")
    for days in KIND_WINDOWS:
        inside = events.filter(pl.col("event_time") >= AS_OF - timedelta(days=days))
        inside.group_by("user_id", "kind").agg(events=pl.len()).sink_parquet(folder / f"kinds_{days}.parquet")
    lines = bought.join(pl.scan_parquet(str(tables / "items" / "*.parquet")), on="item_id")
    for axis in AXES:
        lines.group_by("user_id", axis).agg(**sums).sink_parquet(folder / f"by_{axis}.parquet")


if __name__ == "__main__":
    {"pandas": by_pandas, "polars": by_polars}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
