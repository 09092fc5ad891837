"""Says which features the source cannot have, after a run, a refresh, and in the report."""

import json
from collections import Counter

from rich.console import Console
from rich.table import Table

from recommender.settings import Settings
from recommender.storage.home import Home

SHOWN = 2
"""Names in a line. `schema.json` has all."""


def show_absent(console: Console, settings: Settings) -> None:
    """Print what the source of the materialised features lacks, and the features that this costs."""
    file = Home.of(settings).feature_store.schema
    if not file.is_file():
        return
    absent = json.loads(file.read_text(encoding="utf-8")).get("absent", {})
    if not absent:
        return
    table = Table("missing in the source", "features", "groups", "such as", title_justify="left")
    table.title = "Features that the source cannot have"
    for missing, features in absent.items():
        groups = Counter(name.partition("__")[0] for name in features)
        told = ", ".join(f"{group} {count}" for group, count in groups.items())
        more = f" and {len(features) - SHOWN} more" if len(features) > SHOWN else ""
        table.add_row(missing, f"{len(features)}", told, f"{', '.join(features[:SHOWN])}{more}")
    console.print(table)
    console.print(f"all names: {file} (absent)", highlight=False, soft_wrap=True)
