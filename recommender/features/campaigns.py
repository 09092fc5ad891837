"""Campaign and item features: what a campaign is made of, and what was known of its items and its type when it was decided.

A campaign's features are those of its reference moment: its first targeting or its start, whichever is earlier, and never
later than `as_of`. So a pair of the past and a request of today see a campaign by the same rule.

Shapes: C campaigns · V items, the unknown one first · A axes · G campaign features.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features.campaign_habits import campaign_types, slug
from recommender.features.decisions import TIME
from recommender.features.source import DAY_S, Source
from recommender.features.vectors import largest_departments
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue

POPULARITY_DAYS = 90
PRIOR_PAIRS = 50.0
"""A type's rate is shrunk to the overall rate by this many pairs (posterior mean of a beta-binomial)."""
FIRST_RATE = 0.1
"""The overall rate before any participation could be known, itself worth `PRIOR_PAIRS` pairs."""
MAX_TYPES = 12


@dataclass(frozen=True, eq=False)
class CampaignFeatures:
    """C campaigns in order of their identifiers."""

    reference_us_C: NDArray[np.int64]
    names: tuple[str, ...]
    features_CG: NDArray[np.float32]
    rate_now_C: NDArray[np.float32]
    """Participation rate of an unknown user as known at `as_of`."""
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]


def campaign_features(source: Source) -> CampaignFeatures:
    """Features of all campaigns, each as known at its reference moment."""
    campaigns = source.campaigns
    offsets, items = _item_rows(source)
    reference_us = _reference(source)
    starts, ends = (campaigns[name].cast(pa.int64()).to_numpy() for name in ("starts_at", "ends_at"))
    types = campaigns["campaign_type"].to_pylist()
    columns: dict[str, NDArray[Any]] = {"duration_days": (ends - starts) / 86_400e6, "num_items": np.diff(offsets)}
    columns["num_coupons"] = _coupons(source)
    columns["items_per_coupon"] = columns["num_items"] / np.maximum(columns["num_coupons"], 1)
    kinds = campaigns["kind"].to_pylist()
    if len(set(kinds)) > 1:
        columns |= {f"kind_{kind}": np.array([one == kind for one in kinds]) for kind in sorted(set(kinds))}
    for name in campaign_types(source)[:MAX_TYPES]:
        columns[f"type_{slug(name)}"] = np.array([one == name for one in types])
    columns |= _composition(source, offsets, items)
    columns |= _demand(source, reference_us)
    columns["type_rate"], columns["num_targeted"] = _type_rates(source, reference_us)
    now_us = np.full(len(types), round(source.as_of.timestamp() * 1e6))
    return CampaignFeatures(
        reference_us_C=reference_us,
        names=tuple(f"campaign__{name}" for name in columns),
        features_CG=np.stack([np.asarray(values, dtype=np.float32) for values in columns.values()], axis=1),
        rate_now_C=_type_rates(source, now_us)[0].astype(np.float32),
        offsets=offsets,
        items=items,
    )


def item_popularity(source: Source) -> NDArray[np.float32]:
    """Purchase lines per 30 days of every item in the last days before `as_of`, float32 [V]."""
    lines = source.lines
    age_days = (int(source.as_of.timestamp()) - lines.time_s) / DAY_S
    recent = lines.filter(lines.event_time < source.as_of, age_days <= POPULARITY_DAYS, lines.item_row > 0)
    counted = recent.group_by("item_row").agg(lines=recent.count()).to_pyarrow()
    popularity_V = np.zeros(len(source.taxonomy.item_ids), dtype=np.float32)
    popularity_V[counted["item_row"].to_numpy()] = counted["lines"].to_numpy() * (30 / POPULARITY_DAYS)
    return popularity_V


def catalogue(source: Source, features: CampaignFeatures, popularity_V: NDArray[np.float32]) -> Catalogue:
    """Everything above as serving holds it."""
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
    )


def _item_rows(source: Source) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    pairs = source.campaign_items.order_by("campaign_id", "item_row").to_pyarrow()
    ids = source.campaigns["campaign_id"].to_pylist()
    of_row = {campaign_id: row for row, campaign_id in enumerate(ids)}
    campaign = pairs["campaign_id"].combine_chunks().dictionary_encode()
    rows = np.array([of_row.get(name, -1) for name in campaign.dictionary.to_pylist()], dtype=np.int64)
    rows = rows[campaign.indices.to_numpy()] if len(pairs) else np.zeros(0, dtype=np.int64)
    items = pairs["item_row"].to_numpy().astype(np.int32)[rows >= 0]
    order = np.lexsort((items, rows[rows >= 0]))
    counts = np.bincount(rows[rows >= 0], minlength=len(ids))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[order]


def _reference(source: Source) -> NDArray[np.int64]:
    campaigns = source.campaigns
    targets = source.table("targets")
    known = targets.filter(targets.targeted_at < source.as_of)
    first = known.group_by("campaign_id").agg(first=known.targeted_at.min()).to_pyarrow()
    targeted = dict(
        zip(first["campaign_id"].to_pylist(), first["first"].cast(TIME).cast(pa.int64()).to_pylist(), strict=True)
    )
    now = round(source.as_of.timestamp() * 1e6)
    starts = campaigns["starts_at"].cast(pa.int64()).to_pylist()
    ids = campaigns["campaign_id"].to_pylist()
    return np.array(
        [min(start, targeted.get(one, start), now) for one, start in zip(ids, starts, strict=True)], dtype=np.int64
    )


def _coupons(source: Source) -> NDArray[np.float64]:
    table = source.table("campaign_items")
    if "coupon_id" not in table.columns:
        return np.zeros(source.campaigns.num_rows)
    counted = table.group_by("campaign_id").agg(coupons=table.coupon_id.nunique()).to_pyarrow()
    found = dict(zip(counted["campaign_id"].to_pylist(), counted["coupons"].to_pylist(), strict=True))
    return np.array([found.get(one, 0) for one in source.campaigns["campaign_id"].to_pylist()], dtype=np.float64)


def _composition(source: Source, offsets: NDArray[np.int64], items: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """How many values of each axis a campaign has, and the share of its items in the largest departments."""
    taxonomy, columns = source.taxonomy, {}
    mine = [taxonomy.axes_VA[items[start:end]] for start, end in itertools.pairwise(offsets)]
    for axis, name in enumerate(AXES[1:], start=1):
        if len(taxonomy.axis_values[axis]) > 1:
            columns[f"{name}_breadth"] = np.array([len(np.unique(of_axis[:, axis])) for of_axis in mine])
    axis = AXES.index("department")
    for index in largest_departments(taxonomy):
        shares = [np.mean(of_axis[:, axis] == index) if len(of_axis) else 0.0 for of_axis in mine]
        columns[f"department_{slug(taxonomy.axis_values[axis][index])}"] = np.array(shares)
    return columns


def _demand(source: Source, reference_us: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What all users bought of a campaign's items in the days before its reference moment."""
    ids = source.campaigns["campaign_id"]
    moments = ibis.memtable(pa.table({"campaign_id": ids, "reference_s": reference_us // 1_000_000}))
    lines = source.lines
    sold = source.campaign_items.inner_join(moments, "campaign_id").inner_join(lines, "item_row")
    sold = sold.filter(sold.time_s < sold.reference_s, sold.time_s >= sold.reference_s - POPULARITY_DAYS * DAY_S)
    found = sold.group_by("campaign_id").agg(
        lines=sold.count(),
        cents=sold.cents.sum(),
        discounted=(sold.discount_cents > 0).cast("int64").sum(),
        coupon=(sold.coupon_cents > 0).cast("int64").sum(),
        buyers=sold.user_id.nunique(),
        items=sold.item_row.nunique(),
    )
    rows = {row["campaign_id"]: row for row in found.to_pyarrow().to_pylist()}
    values = {
        name: np.array([rows.get(one, {}).get(name, 0) for one in ids.to_pylist()], dtype=np.float64)
        for name in ("lines", "cents", "discounted", "coupon", "buyers", "items")
    }
    sold_C = np.maximum(values["lines"], 1)
    return {
        "lines_90d": values["lines"],
        "buyers_90d": values["buyers"],
        "items_sold_90d": values["items"],
        "mean_price": np.where(values["lines"] > 0, values["cents"] / 100 / sold_C, np.nan),
        "discounted_share": values["discounted"] / sold_C,
        "coupon_share": values["coupon"] / sold_C,
    }


def _type_rates(source: Source, moments_us: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Participation rate of each campaign's type as known before a moment, shrunk, and how many users the campaign targets then.

    Only other pairs count, those targeted before the moment; being targeted at the moment itself is known.
    """
    campaigns = source.campaigns
    table = source.table("targets").select("campaign_id", "user_id", "targeted_at")
    parts = source.participations
    firsts = parts.group_by("campaign_id", "user_id").agg(redeemed_at=parts.participated_at.min())
    joined = table.left_join(firsts, ["campaign_id", "user_id"])
    pairs = joined.select("campaign_id", "targeted_at", "redeemed_at").to_pyarrow()
    row_of = {one: row for row, one in enumerate(campaigns["campaign_id"].to_pylist())}
    _kinds, type_of_C = np.unique(
        np.array(campaigns["campaign_type"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    campaign_N = np.array([row_of.get(one, -1) for one in pairs["campaign_id"].to_pylist()], dtype=np.int64)
    targeted_N = pairs["targeted_at"].cast(TIME).cast(pa.int64()).to_numpy()
    redeemed_at = pairs["redeemed_at"].cast(TIME).cast(pa.int64()).fill_null(np.iinfo(np.int64).max)
    redeemed_N = redeemed_at.to_numpy()
    now_us = round(source.as_of.timestamp() * 1e6)
    rates, sizes = np.zeros(len(moments_us)), np.zeros(len(moments_us))
    for row, moment in enumerate(moments_us.tolist()):
        known_N = (targeted_N < moment) & (campaign_N >= 0)
        taken_N = known_N & (redeemed_N < moment)
        overall = (taken_N.sum() + PRIOR_PAIRS * FIRST_RATE) / (known_N.sum() + PRIOR_PAIRS)
        same_N = type_of_C[campaign_N] == type_of_C[row]
        rates[row] = ((taken_N & same_N).sum() + PRIOR_PAIRS * overall) / ((known_N & same_N).sum() + PRIOR_PAIRS)
        sizes[row] = ((campaign_N == row) & (targeted_N <= moment) & (targeted_N < now_us)).sum()
    return rates, sizes
