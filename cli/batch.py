"""`score` and `audience`: score all users with the champion."""

from pathlib import Path

import pyarrow as pa
from rich.markup import escape
from rich.table import Table

from cli.bars import user_bar
from recommender.allocation.files import batch_writer, require_known
from recommender.allocation.scoring import SCHEMA, BulkScorer
from recommender.models.campaign.levels import CONFIDENCE
from recommender.report.terminal import wide
from recommender.settings import Settings


def score_to_file(settings: Settings, output: Path) -> None:
    """Score every user for every live campaign, and write one Parquet or CSV file. A failure leaves no partial file.

    Raises:
        SettingsError: `output` is neither Parquet nor CSV.
    """
    require_known(output)
    scorer = BulkScorer.of(settings)
    campaigns = scorer.live_campaigns()
    rows = 0
    with batch_writer(output, SCHEMA) as write, user_bar(scorer.num_users) as progress:
        for batch in scorer.score(campaigns, progress=progress):
            write(batch)
            rows += batch.num_rows
    print(
        f"{output}: {rows:,} pairs, {len(campaigns)} live campaigns as of {scorer.as_of.isoformat()}, "
        f"by {scorer.version}"
    )


def show_audience(settings: Settings, campaign: str, *, top: int, output: Path | None) -> None:
    """Print the `top` most likely shoppers of one campaign, and write all of them to `output`.

    Raises:
        SettingsError: `output` is neither Parquet nor CSV.
    """
    if output is not None:
        require_known(output)
    scorer = BulkScorer.of(settings)
    with user_bar(scorer.num_users) as progress:
        scored = pa.Table.from_batches(scorer.score(scorer.campaigns([campaign]), progress=progress), SCHEMA)
    ranked = scored.sort_by([("score", "descending"), ("user_id", "ascending")])
    title = f"Shoppers for {escape(campaign)}, as of {scorer.as_of:%Y-%m-%d %H:%M} UTC"
    table = Table("#", "user", "probability", title=title)
    for rank, row in enumerate(ranked.slice(0, top).to_pylist(), start=1):
        table.add_row(str(rank), escape(row["user_id"]), f"{row['score']:.3f}")
    wide().print(table)
    found = scorer.ranker.take_up(ranked["score"].to_numpy())
    print(
        f"{found.num_users:,} users, {found.expected:,.0f} participations expected if all of them see it "
        f"({found.low:,} to {found.high:,} with {CONFIDENCE:.0%} probability); by {scorer.version}"
    )
    if output is not None:
        with batch_writer(output, SCHEMA) as write:
            for batch in ranked.to_batches():
                write(batch)
        print(output)
