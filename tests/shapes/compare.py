"""Compares the tables of a drafted mapping with those of a recipe that a person wrote."""

import importlib
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

from recommender.datasets import draft_mapping
from recommender.datasets.files import read_tables

Row = tuple[object, ...]

SHAPES = (
    *("amexpert", "dunnhumby", "ga4", "hm", "instacart", "klaviyo", "magento", "mailchimp", "olist"),
    *("retailrocket", "shopify", "starbucks", "ta_feng", "taobao", "tmall", "uci_online_retail"),
    *("valued_shoppers", "woocommerce"),
)


def shape(name: str) -> ModuleType:
    return importlib.import_module(f"shapes.{name}")


def drafted(module: ModuleType, folder: Path) -> str:
    """The draft for a shape's files, with the recipe's time zone: no file says it, so the draft asks for it."""
    text = draft_mapping(module.write(folder), folder=folder)
    zone = re.search(r"time_zone = (.*)", module.RECIPE)
    assert zone is not None
    return text.replace('time_zone = "UTC"', f"time_zone = {zone[1]}")


def differences(module: ModuleType, text: str, folder: Path) -> list[str]:
    """What the tables of a draft have otherwise than those of the recipe, in the columns that are judged."""
    wanted = _rows(module, module.RECIPE, folder / "recipe.toml")
    found = _rows(module, text, folder / "drafted.toml")
    shift = _shift(wanted, found) if "taken as" in text or "has no year" in text or "are added up" in text else None
    said = []
    for table, rows in wanted.items():
        own = found[table]
        if own is None:
            said.append(f"{table}: no such table")
        elif _comparable(rows or [], None) != _comparable(own, shift):
            said.append(f"{table}: other rows")
    return said


def _rows(module: ModuleType, mapping: str, path: Path) -> dict[str, list[Row] | None]:
    path.write_text(mapping, encoding="utf-8")
    found: dict[str, list[Row] | None] = {}
    with read_tables(path, complete=False) as read:
        for table, columns in module.JUDGED.items():
            known = table in read.present and set(columns) <= set(read.present[table])
            query = f"SELECT {', '.join(columns)} FROM {table}"
            if "basket_id" in columns:
                query = _with_places_of_baskets(columns, table)
            found[table] = read.connection.execute(query).fetchall() if known else None
    return found


def _with_places_of_baskets(columns: tuple[str, ...], table: str) -> str:
    """SQL in which a basket is its place among all, by what lies in it: numbers of baskets may differ."""
    first = ", ".join(f"{one} := {one}" for one in ("event_time", "user_id", "item_id") if one in columns)
    place = "CASE WHEN basket_id IS NOT NULL THEN dense_rank() OVER (ORDER BY _first) END AS basket_id"
    return (
        f"SELECT {', '.join(place if one == 'basket_id' else one for one in columns)} FROM "
        f"(SELECT *, min(struct_pack({first})) OVER (PARTITION BY basket_id) AS _first FROM {table})"
    )


def _shift(wanted: dict[str, list[Row] | None], found: dict[str, list[Row] | None]) -> timedelta | None:
    """By how much all times differ, where the files have no dates and both mappings choose a first day."""
    firsts = [
        min((value for rows in tables.values() for row in rows or [] for value in row if isinstance(value, datetime)),
            default=None)
        for tables in (wanted, found)
    ]  # fmt: skip
    return firsts[0] - firsts[1] if firsts[0] is not None and firsts[1] is not None else None


def _comparable(rows: list[Row], shift: timedelta | None) -> list[str]:
    def value(one: object) -> object:
        if isinstance(one, datetime):
            return one + shift if shift is not None else one
        return round(one, 6) if isinstance(one, float) else one

    return sorted(repr(tuple(value(one) for one in row)) for row in rows)
