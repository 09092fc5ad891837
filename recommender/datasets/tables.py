"""The data contract: seven canonical tables with their columns, dtypes, units, keys and foreign keys.

Ingestion turns every source into these tables, and everything after it reads nothing else. All times are UTC with
microseconds, identifiers are strings, and money is in the source's currency. A column that a source lacks is absent; it
is never made up.

On disk, a folder of tables holds one folder for each table with Parquet files (`events` by month of `event_time`), and
a manifest with the SHA-256 of every file.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from recommender.errors import ContractError
from recommender.storage.manifest import read_manifest

CONTRACT_VERSION = 2
"""Version of the contract, in the manifest of a folder of tables. Raise it when a table changes its meaning."""

TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")
REAL = pa.float64()

LOGGED_BY_DAY = "logged_by_day"
"""Fact of a manifest: day of the shop -> events of the log that were added to the source's own."""
MADE_EVENT_IDS = "events.event_id is the number of the file and of the row in it."
"""Decision of a manifest: the source has no identifiers of events."""

EVENT_KINDS = (
    *("view", "click", "cart", "purchase", "return", "review", "search", "share"),
    *("like", "comment", "favourite", "follow"),
)
"""`return` is what came back: its quantity and amount are positive, and the purchases that it takes back say so."""
CAMPAIGN_KINDS = ("promotion", "coupon", "member_event", "launch")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its Arrow dtype, whether a table must have it, whether a value may be missing, and what it means."""

    dtype: pa.DataType
    meaning: str
    required: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """One canonical table. `foreign_keys` maps a column to the table whose key it refers to. Nulls are allowed."""

    meaning: str
    columns: dict[str, Column]
    key: tuple[str, ...]
    foreign_keys: dict[str, str] = field(default_factory=dict)


def _optional(dtype: pa.DataType, meaning: str, values: tuple[str, ...] = ()) -> Column:
    return Column(dtype=dtype, meaning=meaning, required=False, nullable=True, values=values)


USERS = Table(
    meaning="Everyone who may be shown a campaign.",
    key=("user_id",),
    columns={
        "user_id": Column(dtype=TEXT, meaning="identifier"),
        "joined_at": _optional(TIME, "when the user signed up"),
        "age_band": _optional(TEXT, "age group"),
        "gender": _optional(TEXT, "gender as the source states it"),
        "income_band": _optional(TEXT, "household income group"),
        "household_size": _optional(TEXT, "number of people, as a band"),
        "household_type": _optional(TEXT, "composition of the household"),
        "num_children": _optional(TEXT, "number of children, as a band"),
        "home_ownership": _optional(TEXT, "owner, renter, …"),
        "marital_status": _optional(TEXT, "married, …"),
        "region": _optional(TEXT, "where the user lives"),
    },
)
ITEMS = Table(
    meaning="Everything that can be bought or promoted, with its place in the taxonomy.",
    key=("item_id",),
    columns={
        "item_id": Column(dtype=TEXT, meaning="identifier"),
        "name": _optional(TEXT, "name shown to a shopper"),
        "description": _optional(TEXT, "longer text"),
        "product_type": _optional(TEXT, "finest group of the taxonomy"),
        "category": _optional(TEXT, "middle group of the taxonomy"),
        "department": _optional(TEXT, "coarsest group of the taxonomy"),
        "brand": _optional(TEXT, "brand, or brand kind"),
        "manufacturer": _optional(TEXT, "maker"),
        "package_size": _optional(TEXT, "size as printed on the package"),
        "price": _optional(REAL, "list price, currency units"),
    },
)
CAMPAIGNS = Table(
    meaning="Promotions with a window and a set of items.",
    key=("campaign_id",),
    columns={
        "campaign_id": Column(dtype=TEXT, meaning="identifier"),
        "kind": Column(dtype=TEXT, meaning="what it is", values=CAMPAIGN_KINDS),
        "campaign_type": _optional(TEXT, "the source's own type"),
        "name": _optional(TEXT, "name shown to a shopper"),
        "description": _optional(TEXT, "longer text"),
        "starts_at": Column(dtype=TIME, meaning="first moment of the window"),
        "ends_at": Column(dtype=TIME, meaning="end of the window, exclusive"),
    },
)
CAMPAIGN_ITEMS = Table(
    meaning="Which items a campaign promotes, and through which coupon.",
    key=("campaign_id", "item_id", "coupon_id"),
    columns={
        "campaign_id": Column(dtype=TEXT, meaning="campaign"),
        "item_id": Column(dtype=TEXT, meaning="item"),
        "coupon_id": _optional(TEXT, "the coupon that covers the item; missing = no coupon needed"),
    },
    foreign_keys={"campaign_id": "campaigns", "item_id": "items"},
)
TARGETS = Table(
    meaning="Which users were targeted by which campaign: the pairs that a ranker learns from.",
    key=("campaign_id", "user_id"),
    columns={
        "campaign_id": Column(dtype=TEXT, meaning="campaign"),
        "user_id": Column(dtype=TEXT, meaning="user"),
        "targeted_at": Column(dtype=TIME, meaning="moment of the decision"),
        "propensity": _optional(REAL, "probability that the logging policy chose this pair, (0, 1]"),
    },
    foreign_keys={"campaign_id": "campaigns", "user_id": "users"},
)
EVENTS = Table(
    meaning="What users did.",
    key=("event_id",),
    columns={
        "event_id": Column(dtype=TEXT, meaning="identifier"),
        "user_id": Column(dtype=TEXT, meaning="user"),
        "kind": Column(dtype=TEXT, meaning="what was done", values=EVENT_KINDS),
        "event_time": Column(dtype=TIME, meaning="when"),
        "item_id": _optional(TEXT, "item, where the event has one"),
        "campaign_id": _optional(TEXT, "campaign that the event came from"),
        "basket_id": _optional(TEXT, "basket or session: events that share it happened together"),
        "quantity": _optional(REAL, "units; for loose goods the source's own measure"),
        "amount": _optional(REAL, "money paid, currency units, after all discounts"),
        "discount": _optional(REAL, "money taken off by the shop, >= 0"),
        "coupon_discount": _optional(REAL, "money taken off by a coupon, >= 0"),
        "store_id": _optional(TEXT, "shop or channel"),
        "rating": _optional(REAL, "a review's rating"),
        "query": _optional(TEXT, "a search's words"),
        "text": _optional(TEXT, "a review's or a comment's words"),
        "dwell_s": _optional(REAL, "seconds spent on what was viewed"),
        "page": _optional(TEXT, "page or screen where it happened"),
        "device": _optional(TEXT, "device or kind of device"),
        "location": _optional(TEXT, "where the user was"),
        "currency": _optional(TEXT, "currency in which the source states the amounts; here all are in the shop's"),
        "returned_at": _optional(
            TIME,
            "when the last returned unit of a purchase came back; features of earlier decisions do not see the return",
        ),
        "returned_share": _optional(REAL, "how much of a purchase was returned, (0, 1]; 1 = all of it"),
    },
    foreign_keys={"user_id": "users", "item_id": "items", "campaign_id": "campaigns"},
)
PARTICIPATIONS = Table(
    meaning="Users who took a campaign up: redemptions.",
    key=("campaign_id", "user_id", "coupon_id", "participated_at"),
    columns={
        "campaign_id": Column(dtype=TEXT, meaning="campaign"),
        "user_id": Column(dtype=TEXT, meaning="user"),
        "participated_at": Column(dtype=TIME, meaning="when it was known"),
        "coupon_id": _optional(TEXT, "the coupon redeemed"),
    },
    foreign_keys={"campaign_id": "campaigns", "user_id": "users"},
)

CONTRACT: dict[str, Table] = {
    "users": USERS,
    "items": ITEMS,
    "campaigns": CAMPAIGNS,
    "campaign_items": CAMPAIGN_ITEMS,
    "targets": TARGETS,
    "events": EVENTS,
    "participations": PARTICIPATIONS,
}


@dataclass(frozen=True)
class Tables:
    """A folder of canonical tables. Creating one verifies nothing, `open_tables` does."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Content of the folder's manifest, read without verifying the files."""
        return read_manifest(self.folder, verify=False)

    @property
    def data_hash(self) -> str:
        """Hash of the tables' contents. Neither the folder nor the time of writing changes it."""
        return str(self.manifest["content_hash"])

    @property
    def time_zone(self) -> str:
        """IANA zone of the shops: hours and weekdays are read in it."""
        return str(self.manifest["time_zone"])

    @property
    def currency(self) -> str | None:
        """ISO 4217 code of the currency of all amounts. None where the source does not say."""
        return self.manifest.get("currency")

    @property
    def logged_id(self) -> str:
        """What the identifiers of events from the log begin with here.

        Where the source has no identifiers, a sender's own may look like the number of a row.
        """
        return "http:" if MADE_EVENT_IDS in self.manifest["decisions"] else ""

    @property
    def event_time_has_hours(self) -> bool:
        """Whether the events have a time of day. A log of days without hours says nothing about anyone's hours."""
        return bool(self.manifest.get("event_time_has_hours", True))

    @property
    def log_end(self) -> datetime:
        """Time of the last event. Outcomes after it are unknown."""
        return datetime.fromisoformat(self.manifest["log_end"])

    def has(self, table: str, column: str | None = None) -> bool:
        """Return whether the folder has the table, and the column in it if one is given."""
        columns = self.manifest["columns"].get(table)
        return columns is not None and (column is None or column in columns)

    def glob(self, table: str) -> str:
        """Return a Parquet glob of the table's files that DuckDB, Ibis and Spark read.

        Raises:
            ContractError: the contract has no such table.
        """
        if table not in CONTRACT:
            raise ContractError(table, f"no such table; the contract has {', '.join(CONTRACT)}")
        return str(self.folder / table / "**" / "*.parquet")


def open_tables(folder: Path) -> Tables:
    """Open a folder of tables after verifying every file's SHA-256.

    Raises:
        CorruptFileError: a file is missing, truncated or altered; names the first one.
    """
    read_manifest(folder, verify=True)
    return Tables(folder)
