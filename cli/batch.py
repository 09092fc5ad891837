"""`score` and `audience`: score all users with the champion."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.table import Table

from recommender.allocation.scoring import SCHEMA, BulkScorer
from recommender.errors import SettingsError
from recommender.report.terminal import wide
from recommender.settings import Settings


def score_to_file(settings: Settings, output: Path) -> None:
    """Score every user for every live campaign, and write one Parquet file. A failure leaves no partial file.

    Raises:
        SettingsError: the name of `output` is not that of a Parquet file.
    """
    _require_parquet(output)
    scorer = BulkScorer.open(settings.home)
    campaigns = scorer.live_campaigns()
    rows = _write(scorer, campaigns, output)
    print(
        f"{output}: {rows:,} pairs, {len(campaigns)} live campaigns as of {scorer.as_of.isoformat()}, "
        f"by {scorer.version}"
    )


def show_audience(settings: Settings, campaign: str, *, top: int, output: Path | None) -> None:
    """Print the `top` most likely shoppers of one campaign, and write all of them to `output`.

    Raises:
        SettingsError: the name of `output` is not that of a Parquet file.
    """
    if output is not None:
        _require_parquet(output)
    scorer = BulkScorer.open(settings.home)
    scored = pa.Table.from_batches(scorer.score(scorer.campaigns([campaign])), SCHEMA)
    ranked = scored.sort_by([("score", "descending"), ("user_id", "ascending")])
    table = Table("#", "user", "probability", title=f"Shoppers for {campaign}, as of {scorer.as_of:%Y-%m-%d %H:%M} UTC")
    for rank, row in enumerate(ranked.slice(0, top).to_pylist(), start=1):
        table.add_row(str(rank), row["user_id"], f"{row['score']:.3f}")
    wide().print(table)
    expected = float(sum(ranked["score"].to_pylist()))
    print(
        f"{ranked.num_rows:,} users, {expected:,.0f} participations expected if all of them see it; by {scorer.version}"
    )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ranked, output)
        print(output)


def _require_parquet(output: Path) -> None:
    if output.suffix.lower() not in (".parquet", ".pq"):
        raise SettingsError(f"--output {output}: the file is written as Parquet; end its name with .parquet")


def _write(scorer: BulkScorer, campaigns: NDArray[np.int32], output: Path) -> int:
    rows = 0
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.part")
    try:
        with pq.ParquetWriter(partial, SCHEMA) as writer:
            for batch in scorer.score(campaigns):
                writer.write_batch(batch)
                rows += batch.num_rows
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return rows
