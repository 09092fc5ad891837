"""Features of a user's past with campaigns: how often targeted, how often taken up, of which type, how long ago.

A campaign counts as past if the user was targeted strictly before the decision. A participation counts if it was known
by then.
"""

from collections.abc import Mapping
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recommender.datasets.time_units import DAY_S
from recommender.errors import ContractError
from recommender.features.source import Source
from recommender.features.value_names import ValueNames
from recommender.matching.affinity import PRIOR_PAIRS, PRIOR_RATE, type_code

MAX_TYPES = 8
"""Most campaign types with separate features, the first in alphabetical order. Chosen by hand: a shop has a few."""
COUNTS = (
    *("campaigns_targeted", "campaigns_redeemed", "campaigns_redeemed_90d", "campaigns_redeemed_180d"),
    *("coupons_redeemed", "open_campaigns", "open_campaigns_redeemed"),
)
"""Features that are 0, not unknown, for a user whom no campaign ever targeted. So are those with `COUNT_SUFFIXES`."""
COUNT_SUFFIXES = ("_targeted", "_redeemed")
_OTHERS = ("campaign_rate", "coupons_per_campaign", "redeemed_recency_days", "targeted_recency_days")


def past_targets(source: Source, decided: pa.Table) -> ir.Table:
    """List every campaign that a decision's user was targeted by before the decision, kept in the backend.

    Columns: `redeemed`, 1 if a participation was known before the decision; `coupons`, the number of participations;
    `redeemed_days`, days since the last one; `targeted_days`, days since the targeting; `open`, 1 if the window is
    open; `targeted_at`.
    """
    campaigns = ibis.memtable(source.campaigns.select(["campaign_id", "campaign_type", "ends_at"]))
    moments = ibis.memtable(decided)
    targets = source.table("targets").select("campaign_id", "user_id", "targeted_at")
    targeted = targets.inner_join(moments, "user_id").inner_join(campaigns, "campaign_id")
    targeted = targeted.filter(targeted.targeted_at < targeted.decided_at)
    known = source.participations.inner_join(moments, "user_id")
    known = known.filter(known.participated_at < known.decided_at)
    redeemed = known.group_by("decision", "campaign_id").agg(coupons=known.count(), last=known.participated_at.max())
    joined = targeted.left_join(redeemed, ["decision", "campaign_id"])
    decided_s = joined.decided_at.epoch_seconds()
    return joined.select(
        "decision",
        "campaign_id",
        "campaign_type",
        redeemed=joined.coupons.notnull().cast("int64"),
        coupons=joined.coupons.fill_null(0),
        redeemed_days=(decided_s - joined["last"].epoch_seconds()) / DAY_S,
        targeted_days=(decided_s - joined.targeted_at.epoch_seconds()) / DAY_S,
        open=(joined.ends_at > joined.decided_at).cast("int64"),
        targeted_at=joined.targeted_at,
    ).cache()


def open_campaigns(source: Source, decided: pa.Table, past: ir.Table) -> pa.Table:
    """List the campaigns with an open window that each decision's user was targeted by or took up, numbered by `own`.

    Columns: `own`, `decision`, `campaign_id`, `targeted_at` (the window's start for a user who was not targeted),
    `counted` (1 if `past_targets` has the pair) and `redeemed`; sorted by decision and campaign.
    """
    campaigns = ibis.memtable(source.campaigns.select(["campaign_id", "starts_at", "ends_at"]))
    moments = ibis.memtable(decided)
    known = source.participations.inner_join(moments, "user_id").inner_join(campaigns, "campaign_id")
    known = known.filter(known.participated_at < known.decided_at, known.ends_at > known.decided_at)
    redeemed = known.group_by("decision", "campaign_id").agg(starts_at=known.starts_at.min())
    untargeted = redeemed.anti_join(past, ["decision", "campaign_id"])
    targeted = past.filter(past.open == 1)
    columns = ("decision", "campaign_id", "targeted_at", "counted", "redeemed")
    one = ibis.literal(1).cast("int64")
    both = (
        targeted.mutate(counted=one).select(*columns),
        untargeted.mutate(counted=ibis.literal(0).cast("int64"), redeemed=one, targeted_at=untargeted.starts_at).select(
            *columns
        ),
    )
    listed = both[0].union(both[1]).order_by("decision", "campaign_id").to_pyarrow()
    return listed.append_column("own", pa.array(range(listed.num_rows), pa.int32()))


def without_own(past: ir.Table, own: pa.Table) -> ir.Table:
    """List `past_targets` of each row of `open_campaigns` without its campaign; `decision` is the row's `own`."""
    rows = ibis.memtable(own.select(["own", "decision", "campaign_id"]).rename_columns(["own", "decision", "left_out"]))
    others = past.inner_join(rows, "decision")
    others = others.filter(others.campaign_id != others.left_out)
    return others.drop("decision", "left_out").rename(decision="own")


def of_types(source: Source, named: ValueNames) -> dict[str, tuple[str, ...]]:
    """Name the features of each campaign type: type -> those of targeted, of redeemed, and of the rate."""
    forms = [f"behaviour__{{}}{suffix}" for suffix in (*COUNT_SUFFIXES, "_rate")]
    taken = [f"behaviour__{name}" for name in (*COUNTS, *_OTHERS)]
    return named.name("campaign_type", campaign_types(source)[:MAX_TYPES], forms, taken=taken)


def habits(past: ir.Table, names: Mapping[str, tuple[str, ...]]) -> ir.Table:
    """Compute `behaviour__*` from `past_targets`, one row for each decision whose user was targeted before.

    `names`: what `of_types` returned.
    """
    targeted, redeemed = past.count(), past.redeemed.sum()
    columns: dict[str, Any] = {
        "campaigns_targeted": targeted,
        "campaigns_redeemed": redeemed,
        "campaign_rate": (redeemed + PRIOR_PAIRS * PRIOR_RATE) / (targeted + PRIOR_PAIRS),
        "coupons_redeemed": past.coupons.sum(),
        "coupons_per_campaign": past.coupons.sum() / targeted,
        "open_campaigns": past.open.sum(),
        "open_campaigns_redeemed": (past.open * past.redeemed).sum(),
        "redeemed_recency_days": past.redeemed_days.min(),
        "targeted_recency_days": past.targeted_days.min(),
        # A season and half a year, as in `purchases.WINDOWS`.
        "campaigns_redeemed_90d": (past.redeemed_days <= 90).fill_null(False).cast("int64").sum(),
        "campaigns_redeemed_180d": (past.redeemed_days <= 180).fill_null(False).cast("int64").sum(),
    }
    columns = {f"behaviour__{name}": value for name, value in columns.items()}
    for campaign_type, (of_targeted, of_redeemed, of_rate) in names.items():
        same = (past.campaign_type == campaign_type).cast("int64")
        columns[of_targeted] = same.sum()
        columns[of_redeemed] = (same * past.redeemed).sum()
        columns[of_rate] = ((same * past.redeemed).sum() + PRIOR_PAIRS * PRIOR_RATE) / (same.sum() + PRIOR_PAIRS)
    return past.group_by("decision").agg(**columns)


def habits_by_type(past: ir.Table) -> pa.Table:
    """Count `past_targets` by campaign type: (decision, campaign_type, targeted, redeemed), sorted.

    These counts go into a user's packed vector, from which the cross features of a request are computed.
    """
    counted = past.group_by("decision", "campaign_type").agg(targeted=past.count(), redeemed=past.redeemed.sum())
    return counted.order_by("decision", "campaign_type").to_pyarrow()


def campaign_types(source: Source) -> list[str]:
    """List all types that the campaigns have, in alphabetical order.

    Raises:
        ContractError: two types have the same code in users' vectors (one pair in four billion).
    """
    types = sorted(set(source.campaigns["campaign_type"].to_pylist()))
    by_code: dict[int, str] = {}
    for campaign_type in types:
        other = by_code.setdefault(type_code(campaign_type), campaign_type)
        if other != campaign_type:
            problem = f"{other!r} and {campaign_type!r} have the same CRC-32; rename one in the mapping's `values`"
            raise ContractError("campaigns", problem, column="campaign_type")
    return types
