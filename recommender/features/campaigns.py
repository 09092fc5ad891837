"""Features of campaigns and items: a campaign's composition, demand for its items, and participation in its type.

A campaign's features are those of its reference time: its first targeting or its start, whichever is earlier, and never
later than `as_of`. So a pair of the past and a request of today see a campaign by the same rule.

Shapes: C campaigns · V items, the unknown one first · A axes of the taxonomy · G campaign features · N pairs.
"""

import itertools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.moments import first_open_day
from recommender.datasets.time_units import DAY_S, DAY_US, MONTH_DAYS, SECOND_US
from recommender.features.as_of import Ints, Running
from recommender.features.campaign_habits import campaign_types
from recommender.features.decisions import TIME
from recommender.features.demand import POPULARITY_DAYS, demand
from recommender.features.newcomers import SHOP_PRIOR_PAIRS, SHOP_PRIOR_RATE, Newcomers
from recommender.features.source import Source, known_at
from recommender.features.value_names import ValueNames
from recommender.features.vectors import department_index, largest_departments
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.event_rules import MONEY, EventRules
from recommender.matching.look_rules import LookRules

ONE_HOT_TYPES = 12
"""Campaign types with an indicator, the first ones in alphabetical order. Chosen by hand: a shop has a few."""


@dataclass(frozen=True, eq=False)
class CampaignFeatures:
    """Features of all campaigns in order of their identifiers."""

    reference_us_C: NDArray[np.int64]
    """Time up to which each campaign's features use data, microseconds since 1970, UTC."""
    names: tuple[str, ...]
    features_CG: NDArray[np.float32]
    rate_now_C: NDArray[np.float32]
    """Participation rate of targeted users as known at `as_of`."""
    offsets: NDArray[np.int64]
    """[C + 1]: campaign c has the items `items[offsets[c] : offsets[c + 1]]`."""
    items: NDArray[np.int32]
    """Rows of items in the taxonomy."""


def campaign_features(source: Source, named: ValueNames) -> CampaignFeatures:
    """Compute the features of all campaigns, each as known at its reference time."""
    campaigns = source.campaigns
    offsets, items = _item_rows(source)
    reference_us = _reference_times(source)
    starts, ends = (campaigns[name].cast(pa.int64()).to_numpy() for name in ("starts_at", "ends_at"))
    types = campaigns["campaign_type"].to_pylist()
    columns: dict[str, NDArray[Any]] = {"duration_days": (ends - starts) / DAY_US, "num_items": np.diff(offsets)}
    columns["num_coupons"] = _num_coupons(source)
    columns["items_per_coupon"] = columns["num_items"] / np.maximum(columns["num_coupons"], 1)
    kinds = np.array(campaigns["kind"].to_pylist(), dtype=object)
    if len(seen := named.also("campaign__kind_{}", sorted(set(kinds)))) > 1:
        columns |= {f"kind_{kind}": kinds == kind for kind in seen}
    indicators = named.name(
        "campaign_type", campaign_types(source)[:ONE_HOT_TYPES], ["campaign__type_{}"], taken=["campaign__type_rate"]
    )
    for campaign_type, (name,) in indicators.items():
        columns[name.removeprefix("campaign__")] = np.array(types, dtype=object) == campaign_type
    columns |= _composition(source, offsets, items, named)
    columns |= _demand(source, offsets, items, reference_us)
    columns["type_rate"], columns["num_targeted"] = _type_rates(source, reference_us)
    now_us = np.full(len(types), round(source.as_of.timestamp() * SECOND_US))
    return CampaignFeatures(
        reference_us_C=reference_us,
        names=tuple(f"campaign__{name}" for name in columns),
        features_CG=np.stack([np.asarray(values, dtype=np.float32) for values in columns.values()], axis=1),
        rate_now_C=_type_rates(source, now_us)[0].astype(np.float32),
        offsets=offsets,
        items=items,
    )


def item_popularity(source: Source) -> NDArray[np.float32]:
    """Count every item's purchase lines per 30 days over the last `POPULARITY_DAYS` before `as_of`, float32 [V]."""
    lines = known_at(source.lines, int(source.as_of.timestamp()))
    age_days = (int(source.as_of.timestamp()) - lines.time_s) / DAY_S
    recent = lines.filter(lines.event_time < source.as_of, age_days <= POPULARITY_DAYS, lines.item_row > 0)
    counted = recent.group_by("item_row").agg(lines=recent.count()).to_pyarrow()
    popularity_V = np.zeros(len(source.taxonomy.item_ids), dtype=np.float32)
    popularity_V[counted["item_row"].to_numpy()] = counted["lines"].to_numpy() * (MONTH_DAYS / POPULARITY_DAYS)
    popularity_V[~source.taxonomy.present_V] = 0.0  # what the shop no longer sells is not popular
    return popularity_V


def catalogue(
    source: Source, features: CampaignFeatures, popularity_V: NDArray[np.float32], late_days: int = 0
) -> Catalogue:
    """Put items, taxonomy, campaigns and their features together as serving holds them in memory.

    `late_days` as in `event_rules`.
    """
    campaigns, taxonomy = source.campaigns, source.taxonomy
    ids = campaigns["campaign_id"].to_pylist()
    names = campaigns["name"].to_pylist() if "name" in campaigns.column_names else ids
    return Catalogue.versioned(
        item_ids=taxonomy.item_ids,
        item_names=taxonomy.names,
        item_axes_VA=taxonomy.axes_VA,
        axis_values=taxonomy.axis_values,
        item_popularity_V=popularity_V,
        campaign_ids=tuple(ids),
        campaign_names=tuple(name or campaign_id for name, campaign_id in zip(names, ids, strict=True)),
        campaign_kinds=tuple(campaigns["kind"].to_pylist()),
        campaign_types=tuple(campaigns["campaign_type"].to_pylist()),
        campaign_starts_C=campaigns["starts_at"].cast(pa.int64()).to_numpy(),
        campaign_ends_C=campaigns["ends_at"].cast(pa.int64()).to_numpy(),
        campaign_item_offsets=features.offsets,
        campaign_items=features.items,
        campaign_features_CG=features.features_CG,
        campaign_feature_names=features.names,
        campaign_popularity_C=features.rate_now_C,
        id_versions=taxonomy.id_versions,
        event_rules=event_rules(source, late_days),
    )


def event_rules(source: Source, late_days: int) -> EventRules:
    """What the tables say about how events are to be taken. Of largest values only events before `as_of` count.

    `late_days` is for how many days a day stays open after the end of the log; 0: for ever.
    """
    events = source.table("events")
    past = events.filter(events.event_time < source.as_of)
    money, others = [name for name in MONEY if name in past.columns], ("quantity", "rating")
    asked = [*money, *(name for name in others if name in past.columns)]
    found = past.aggregate(**{name: past[name].max() for name in asked}).to_pyarrow().to_pylist()[0] if asked else {}
    largest = {name: float(value) for name, value in found.items() if value is not None and value > 0}
    most = max((largest[name] for name in money if name in largest), default=None)
    known = {name: value for name, value in largest.items() if name not in MONEY}
    return EventRules(
        currency=source.tables.currency,
        open_from=first_open_day(source.tables.log_end, late_days).isoformat() if late_days else None,
        largest=known if most is None else {**known, **dict.fromkeys(MONEY, most)},
    )


def with_newcomers(catalogue: Catalogue, found: Newcomers) -> Catalogue:
    """Add what to expect of newcomers to a catalogue. That is another version."""
    content = {column.name: getattr(catalogue, column.name) for column in fields(catalogue)[1:]}
    content |= {"campaign_newcomer_C": found.rate_C, "campaign_behind_CJ": found.behind_CJ}
    return Catalogue.versioned(**content)


def with_look_rules(catalogue: Catalogue, rules: LookRules) -> Catalogue:
    """Add what users' looks count to a catalogue. That is another version."""
    content = {column.name: getattr(catalogue, column.name) for column in fields(catalogue)[1:]}
    return Catalogue.versioned(**(content | {"look_rules": rules}))


def _item_rows(source: Source) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return offsets [C + 1] and the item rows of all campaigns, ascending within a campaign."""
    pairs = source.campaign_items.order_by("campaign_id", "item_row").to_pyarrow()
    ids = source.campaigns["campaign_id"].to_pylist()
    row_of = {campaign_id: row for row, campaign_id in enumerate(ids)}
    campaign = pairs["campaign_id"].combine_chunks().dictionary_encode()
    rows = np.array([row_of.get(name, -1) for name in campaign.dictionary.to_pylist()], dtype=np.int64)
    rows = rows[campaign.indices.to_numpy()] if len(pairs) else np.zeros(0, dtype=np.int64)
    items = pairs["item_row"].to_numpy().astype(np.int32)[rows >= 0]
    order = np.lexsort((items, rows[rows >= 0]))
    counts = np.bincount(rows[rows >= 0], minlength=len(ids))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[order]


def _reference_times(source: Source) -> NDArray[np.int64]:
    """Return each campaign's reference time, microseconds since 1970, UTC, int64 [C]."""
    campaigns = source.campaigns
    targets = source.table("targets")
    known = targets.filter(targets.targeted_at < source.as_of)
    first = known.group_by("campaign_id").agg(first=known.targeted_at.min()).to_pyarrow()
    targeted = dict(
        zip(first["campaign_id"].to_pylist(), first["first"].cast(TIME).cast(pa.int64()).to_pylist(), strict=True)
    )
    now = round(source.as_of.timestamp() * SECOND_US)
    starts = campaigns["starts_at"].cast(pa.int64()).to_pylist()
    ids = campaigns["campaign_id"].to_pylist()
    return np.array(
        [min(start, targeted.get(campaign_id, start), now) for campaign_id, start in zip(ids, starts, strict=True)],
        dtype=np.int64,
    )


def _num_coupons(source: Source) -> NDArray[np.float64]:
    """Count the coupons of each campaign, float64 [C]."""
    table = source.table("campaign_items")
    if "coupon_id" not in table.columns:
        return np.zeros(source.campaigns.num_rows)
    counted = table.group_by("campaign_id").agg(coupons=table.coupon_id.nunique()).to_pyarrow()
    by_campaign = dict(zip(counted["campaign_id"].to_pylist(), counted["coupons"].to_pylist(), strict=True))
    ids = source.campaigns["campaign_id"].to_pylist()
    return np.array([by_campaign.get(campaign_id, 0) for campaign_id in ids], dtype=np.float64)


def _composition(
    source: Source, offsets: NDArray[np.int64], items: NDArray[np.int32], named: ValueNames
) -> dict[str, NDArray[Any]]:
    """Count how many values of each axis a campaign has, and the share of its items in the largest departments."""
    taxonomy, columns = source.taxonomy, {}
    axes_by_campaign = [taxonomy.axes_VA[items[start:end]] for start, end in itertools.pairwise(offsets)]
    for axis, name in enumerate(AXES[1:], start=1):
        if len(taxonomy.axis_values[axis]) > 1:
            columns[f"{name}_breadth"] = np.array([len(np.unique(axes[:, axis])) for axes in axes_by_campaign])
    axis = AXES.index("department")
    departments = largest_departments(taxonomy)
    taken = ["campaign__department_breadth"]
    for department, (name,) in named.name("department", departments, ["campaign__department_{}"], taken=taken).items():
        index = department_index(taxonomy, department)
        shares = [np.mean(axes[:, axis] == index) if len(axes) else 0.0 for axes in axes_by_campaign]
        columns[name.removeprefix("campaign__")] = np.array(shares)
    return columns


def _demand(
    source: Source, offsets: NDArray[np.int64], items: NDArray[np.int32], reference_us: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Count what all users bought of a campaign's items in the `POPULARITY_DAYS` before its reference time."""
    values = demand(source, offsets, items, reference_us)
    lines_C = np.maximum(values["lines"], 1)
    return {
        "lines_90d": values["lines"],
        "buyers_90d": values["buyers"],
        "items_sold_90d": values["items"],
        "mean_price": np.where(values["lines"] > 0, values["cents"] / source.minor_units / lines_C, np.nan),
        "discounted_share": values["discounted"] / lines_C,
        "coupon_share": values["coupon"] / lines_C,
    }


def _type_rates(source: Source, moments_us: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the shrunk participation rate of each campaign's type before a time, and the campaign's targeted users.

    For the rate only pairs count that were targeted before the time. For the number of users those at the time itself
    count too, because they are known when the decision is made.

    Args:
        source: the tables.
        moments_us: a time for each campaign, microseconds since 1970, UTC, int64 [C].

    Returns:
        Rates and numbers of users, float64 [C] each.
    """
    campaigns = source.campaigns
    table = source.table("targets").select("campaign_id", "user_id", "targeted_at")
    participations = source.participations
    firsts = participations.group_by("campaign_id", "user_id").agg(redeemed_at=participations.participated_at.min())
    joined = table.left_join(firsts, ["campaign_id", "user_id"])
    pairs = joined.select("campaign_id", "targeted_at", "redeemed_at").to_pyarrow()
    row_of = {campaign_id: row for row, campaign_id in enumerate(campaigns["campaign_id"].to_pylist())}
    _, type_of_C = np.unique(
        np.array(campaigns["campaign_type"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    campaign_N = np.array([row_of.get(name, -1) for name in pairs["campaign_id"].to_pylist()], dtype=np.int64)
    targeted_N = pairs["targeted_at"].cast(TIME).cast(pa.int64()).to_numpy()[campaign_N >= 0]
    redeemed_at = pairs["redeemed_at"].cast(TIME).cast(pa.int64()).fill_null(np.iinfo(np.int64).max)
    known_N = np.maximum(redeemed_at.to_numpy()[campaign_N >= 0], targeted_N)  # both lie behind
    campaign_N = campaign_N[campaign_N >= 0]
    now_us = round(source.as_of.timestamp() * SECOND_US)

    def before(group_N: Ints, time_us_N: Ints, group_C: Ints) -> Ints:
        """Count the pairs of each campaign's group before its time."""
        counted = {"pairs": np.ones(len(group_N), dtype=np.int64)}
        return Running(group_N, time_us_N, counted).at(group_C, moments_us).before(("pairs",))["pairs"]

    everyone_N, everyone_C = np.zeros_like(campaign_N), np.zeros_like(moments_us)
    targeted_C, redeemed_C = (before(everyone_N, times, everyone_C) for times in (targeted_N, known_N))
    overall_C = (redeemed_C + SHOP_PRIOR_PAIRS * SHOP_PRIOR_RATE) / (targeted_C + SHOP_PRIOR_PAIRS)
    type_N = type_of_C[campaign_N]
    of_type_C, redeemed_of_type_C = (before(type_N, times, type_of_C) for times in (targeted_N, known_N))
    rates_C = (redeemed_of_type_C + SHOP_PRIOR_PAIRS * overall_C) / (of_type_C + SHOP_PRIOR_PAIRS)
    # At the time itself counts too, so strictly before the next microsecond.
    own_N = targeted_N < now_us
    sizes = {"pairs": np.ones(int(own_N.sum()), dtype=np.int64)}
    own = Running(campaign_N[own_N], targeted_N[own_N], sizes).at(np.arange(len(moments_us)), moments_us + 1)
    return rates_C, own.before(("pairs",))["pairs"].astype(np.float64)
