"""One shopper's portrait in plain words: what the page, the terminal and `--json` show.

Read from the table of facts of the last materialisation (`recommender.features.facts`).
"""

import math
import shlex
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from recommender.allocation.encodings import Encoding
from recommender.errors import FeatureStoreError, SourceError
from recommender.report.portrait_words import sentences
from recommender.settings import Settings
from recommender.storage.commands import command
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home

Kind = Literal["base", "behaviour", "interest", "social", "consumption"]
SHOWN_USERS = 3
"""Identifiers that a message about an unknown user shows, so that their form can be seen."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statement(_Part):
    """One fact in words, with the number behind it."""

    kind: Kind
    words: str
    fact: str
    """Name of the column in the table of facts."""
    value: float | None
    unit: str
    source: str
    age_days: float | None
    """Days from the newest event behind it to the portrait's moment. None where there is none."""


class Flag(_Part):
    """A pattern that a person should look at. No ranker reads it."""

    pattern: str
    words: str
    cases: int
    out_of: int
    by_chance: float
    """Share of shoppers who have as many by chance."""


class Basket(_Part):
    """What was bought at one time."""

    at: datetime
    spend: float
    lines: int


class Campaign(_Part):
    """A campaign that was sent to the shopper or taken up."""

    campaign_id: str
    name: str
    type: str
    targeted_at: datetime | None
    ends_at: datetime
    taken_up_at: datetime | None
    times: int


class Favourite(_Part):
    """A value that the shopper bought or looked at most."""

    axis: str
    value: str
    count: int
    share: float
    spend: float


class PortraitCard(_Part):
    """Everything about one shopper."""

    schema_version: int = 1
    user_id: str
    as_of: datetime
    time_zone: str
    currency: str
    has_hours: bool
    """Whether the shop's purchases have a time of day."""
    num_users: int
    """Users whom the shop knows, with whom this one is compared."""
    joined_at: datetime | None
    attributes: dict[str, str]
    statements: list[Statement]
    flags: list[Flag]
    baskets: list[Basket]
    campaigns: list[Campaign]
    favourites: list[Favourite]
    looked_at: list[Favourite]
    encoding: Encoding | None = None
    """What a sequence encoder makes of the purchases. None: see `encoding_note`."""
    encoding_note: str = ""
    """Why there is no encoding."""


def group_axis(axes: Container[str]) -> str | None:
    """Which of the axes best says what a shopper likes: categories, else the level below or above them."""
    return next((axis for axis in ("category", "product_type", "department") if axis in axes), None)


def read_card(settings: Settings, user_id: str) -> PortraitCard:
    """Read one shopper's row of the table of facts of the last materialisation.

    Raises:
        FeatureStoreError: there is no table. Names the command that makes it.
        SourceError: the shopper was forgotten, or the table has no such user. Says what to do.
        CorruptFileError: it is not known who was forgotten; names the file.
    """
    home = Home.of(settings)
    file = home.feature_store.facts
    forgotten_at = Forgotten.of(home).moment_of(user_id)
    if forgotten_at is not None:
        raise SourceError(
            f"shopper {user_id!r} was forgotten on {forgotten_at[:16].replace('T', ' ')} UTC and is kept out since. If "
            f"the shopper came back: {command(settings, f'forget {shlex.quote(user_id)} --allow')}, and then "
            f"{command(settings, 'refresh')}"
        )
    if not file.is_file():
        raise FeatureStoreError(f"{file}: missing; build the features first with: {command(settings, 'run')}")
    table = pq.read_table(file, filters=[("user_id", "=", user_id)])
    facts = {key.decode(): value.decode() for key, value in (pq.read_schema(file).metadata or {}).items()}
    as_of = datetime.fromisoformat(facts["as_of"])
    if not table.num_rows:
        known = pq.ParquetFile(file).iter_batches(batch_size=SHOWN_USERS, columns=["user_id"])
        examples = ", ".join(next(known).column(0).to_pylist())
        raise SourceError(
            f"unknown user {user_id!r}: the features of {as_of:%Y-%m-%d} know {int(facts['num_users']):,} "
            f"users, such as {examples}. Check the identifier; a new user is known once the source has them and "
            f"features were built: {command(settings, 'refresh')}"
        )
    return card_of(table.to_pylist()[0], facts)


def card_of(row: Mapping[str, Any], facts: Mapping[str, str]) -> PortraitCard:
    """Put one row of the table of facts, and the facts about the table, into words."""
    as_of = datetime.fromisoformat(facts["as_of"]).astimezone(UTC)
    currency = facts.get("currency", "")
    joined = row.get("joined_at")
    return PortraitCard(
        user_id=row["user_id"],
        as_of=as_of,
        time_zone=facts["time_zone"],
        currency=currency,
        has_hours=facts.get("has_hours") == "True",
        num_users=int(facts["num_users"]),
        joined_at=joined,
        attributes={entry["name"]: entry["value"] for entry in row["attributes"]},
        statements=[
            Statement(**entry) for entry in sentences(row, as_of=as_of, currency=currency, num_campaigns=_sent(row))
        ],
        flags=_flags(row),
        baskets=[Basket(**entry) for entry in row["baskets"]],
        campaigns=[Campaign(**entry) for entry in row["campaigns"]],
        favourites=[Favourite(**entry) for entry in row["favourites"]],
        looked_at=[Favourite(**entry) for entry in row["looked_at"]],
    )


def _sent(row: Mapping[str, Any]) -> tuple[int, int]:
    taken = sum(1 for entry in row["campaigns"] if entry["taken_up_at"] is not None)
    return len(row["campaigns"]), taken


RAREST = 1e-6
"""What is rarer is not told apart."""
PATTERN_WORDS = {
    "returns": "{cases:,} of {out_of:,} purchase lines of the last year came back.",
    "untargeted_coupons": "{cases:,} campaigns of the last year were taken up though not sent to this shopper.",
    "repeated_coupons": "A coupon that was already redeemed was redeemed again {cases:,} times in the last year.",
    "review_bursts": "{cases:,} reviews within 24 hours.",
    "copied_reviews": "{cases:,} reviews repeat the words of an earlier one.",
}


def _flags(row: Mapping[str, Any]) -> list[Flag]:
    found = []
    for pattern, words in PATTERN_WORDS.items():
        if not row.get(f"risk__{pattern}_flag"):
            continue
        cases, out_of = int(row[f"risk__{pattern}"]), int(row[f"risk__{pattern}_of"])
        chance = float(row[f"risk__{pattern}_chance"])
        # A power of ten: no model of shoppers is right to a digit that far out.
        rare = f"fewer than 1 in {10 ** math.floor(-math.log10(max(chance, RAREST))):,}"
        told = words.format(cases=cases, out_of=out_of)
        told += f" By chance {rare} shoppers here would have as many."
        found.append(Flag(pattern=pattern, words=told, cases=cases, out_of=out_of, by_chance=chance))
    return found
