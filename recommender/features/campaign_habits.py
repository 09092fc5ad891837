"""The user's past with campaigns, as behaviour: how often targeted, taken up, of which type, how long ago.

A campaign counts as past when the user was targeted strictly before the decision, a participation when it was known by then.
"""

import re
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recommender.features.source import DAY_S, Source
from recommender.matching.affinity import PRIOR_PAIRS, PRIOR_RATE

MAX_TYPES = 8


def encounters(source: Source, decided: pa.Table) -> ir.Table:
    """Every pair of a decision and a campaign that its user was targeted with before; kept in the backend.

    `redeemed`: 1 if a participation was known before the decision, `coupons`: how many, `redeemed_s`: when the last one was.
    """
    campaigns = ibis.memtable(source.campaigns.select(["campaign_id", "campaign_type", "ends_at"]))
    moments = ibis.memtable(decided)
    targets = source.table("targets").select("campaign_id", "user_id", "targeted_at")
    met = targets.inner_join(moments, "user_id").inner_join(campaigns, "campaign_id")
    met = met.filter(met.targeted_at < met.decided_at)
    known = source.participations.inner_join(moments, "user_id")
    known = known.filter(known.participated_at < known.decided_at)
    taken = known.group_by("decision", "campaign_id").agg(coupons=known.count(), last=known.participated_at.max())
    joined = met.left_join(taken, ["decision", "campaign_id"])
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
    ).cache()


def habits(met: ir.Table, source: Source) -> ir.Table:
    """One row a decision whose user was targeted before."""
    targeted, redeemed = met.count(), met.redeemed.sum()
    columns: dict[str, Any] = {
        "campaigns_targeted": targeted,
        "campaigns_redeemed": redeemed,
        "campaign_rate": (redeemed + PRIOR_PAIRS * PRIOR_RATE) / (targeted + PRIOR_PAIRS),
        "coupons_redeemed": met.coupons.sum(),
        "coupons_per_campaign": met.coupons.sum() / targeted,
        "open_campaigns": met.open.sum(),
        "open_campaigns_redeemed": (met.open * met.redeemed).sum(),
        "redeemed_recency_days": met.redeemed_days.min(),
        "targeted_recency_days": met.targeted_days.min(),
        "campaigns_redeemed_90d": (met.redeemed_days <= 90).fill_null(False).cast("int64").sum(),
        "campaigns_redeemed_180d": (met.redeemed_days <= 180).fill_null(False).cast("int64").sum(),
    }
    for name in campaign_types(source)[:MAX_TYPES]:
        same = (met.campaign_type == name).cast("int64")
        columns[f"{slug(name)}_targeted"] = same.sum()
        columns[f"{slug(name)}_redeemed"] = (same * met.redeemed).sum()
        columns[f"{slug(name)}_rate"] = ((same * met.redeemed).sum() + PRIOR_PAIRS * PRIOR_RATE) / (
            same.sum() + PRIOR_PAIRS
        )
    return met.group_by("decision").agg(**{f"behaviour__{name}": value for name, value in columns.items()})


def habits_by_type(met: ir.Table) -> pa.Table:
    """(decision, campaign_type, targeted, redeemed) in order: what a user's vector holds for the cross."""
    counted = met.group_by("decision", "campaign_type").agg(targeted=met.count(), redeemed=met.redeemed.sum())
    return counted.order_by("decision", "campaign_type").to_pyarrow()


def campaign_types(source: Source) -> list[str]:
    """All types that the campaigns have, in alphabetical order."""
    return sorted(set(source.campaigns["campaign_type"].to_pylist()))


def slug(name: str) -> str:
    """A value as part of a column's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "none"
