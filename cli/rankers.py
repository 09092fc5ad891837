"""`rankers`: every ranker with its hyperparameters, their defaults, bounds, searched ranges and meaning."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from recommender.engine.hyperparameters import Choices, Range
from recommender.models.listing import Hyperparameter, Listed, listed
from recommender.report.terminal import wide

KINDS = {"campaign": "campaigns", "both": "next items and campaigns"}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "none"}
NOT = "-"
MAX_WIDTH = 26
"""Width of the narrow columns: enough for a range on one line, and the column `meaning` gets the rest."""


def show_rankers(name: str | None, *, as_json: bool) -> None:
    """Print all rankers, or the one called `name`, as tables or as JSON.

    Raises:
        BundleError: There is no such ranker. The message names the nearest one.
    """
    if as_json:
        print(json.dumps([asdict(ranker) for ranker in listed(name)], indent=1))
        return
    console = wide()
    for ranker in listed(name):
        console.print(_table(ranker))


def _table(ranker: Listed) -> Table:
    gpu = ", trains on a GPU too" if ranker.trains_on_gpu else ""
    table = Table(title=Text(f"{ranker.name}: ranks {KINDS[ranker.kind]}{gpu}\n{ranker.meaning}"), title_justify="left")
    table.add_column("hyperparameter", no_wrap=True)
    for column in ("default", "allowed", "searched"):
        table.add_column(column, max_width=MAX_WIDTH)
    table.add_column("meaning")
    items, campaign = ({one.name: one for one in found} for found in (ranker.next_item, ranker.campaign))
    for name in {**items, **campaign}:
        uses = [found[name] for found in (items, campaign) if name in found]
        cells = (
            _by_use([_value(one.default) for one in uses]),
            _allowed(uses[-1].allowed),
            _by_use([*map(_searched, uses)]),
        )
        only = "Campaigns only. " if items and name not in items else ""
        table.add_row(*map(Text, (name, *cells, f"{only}{uses[-1].meaning}")))
    return table


def _by_use(texts: list[str]) -> str:
    """One text if next items and campaigns share it, else both texts."""
    if len(set(texts)) == 1:
        return texts[0]
    items, campaigns = texts
    return f"items: {items}\ncampaigns: {campaigns}"


def _value(value: Any) -> str:
    """A default as it is written in TOML."""
    return "none" if value is None else json.dumps(value)


def _searched(one: Hyperparameter) -> str:
    match one.searched:
        case Range(low, high, log):
            return f"{low:g} … {high:g}{', log scale' if log else ''}"
        case Choices(values=values):
            return ", ".join(map(_value, values))
        case _:
            return NOT


def _allowed(schema: Mapping[str, Any]) -> str:
    """Type and bounds of a JSON Schema in words."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(map(_allowed, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of: {_allowed(schema['items'])}"
    kind = TYPES.get(schema.get("type", ""), "table")
    if schema.get("minLength"):
        kind += ", not empty"
    return ", ".join([kind, *(f"{words} {schema[key]:g}" for key, words in BOUNDS.items() if key in schema)])
