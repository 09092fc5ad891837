"""Calibration of what was served: the probabilities in the decision log against the participations that came.

A pair counts once, by its first decision, when its campaign's window has ended and the log reaches that far. Only
answers of the user's own version count: a popular list has no probability. Whole campaigns lie above or below what
anyone could expect, so the interval of observed over expected is over users and campaigns (`evaluation.reliability`).

Shapes: N pairs.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.tables import Tables
from recommender.decision_tables import open_decisions
from recommender.evaluation.metrics import ScoredPairs, log_losses
from recommender.evaluation.reliability import error_factor, reliability
from recommender.monitoring.findings import Finding, Served
from recommender.settings import MonitoringSettings, Settings

CONFIDENCE = 0.95
"""The usual level, of all campaign types together (Bonferroni)."""
ALL = ""
REMEDY = (
    "Look first whether the participations are complete. If they are, train again: the new fit learns the level of the "
    "last campaigns."
)
PAIRS = """
WITH served AS (
    SELECT d.user_id, c.campaign_id, min(d.as_of) AS as_of, arg_min(c.score, (d.as_of, d.request_id)) AS score
    FROM decisions d, unnest(d.campaigns) AS u(c)
    WHERE d.by_assigned_version AND NOT d.cold_start AND c.score IS NOT NULL
    GROUP BY d.user_id, c.campaign_id
), came AS (
    SELECT user_id, campaign_id, list(participated_at) AS times FROM {participations} GROUP BY user_id, campaign_id
)
SELECT s.user_id, s.campaign_id, {campaign_type} AS campaign_type, s.score,
    len(list_filter(coalesce(came.times, []), lambda t: t >= s.as_of AND t < campaigns.ends_at)) > 0 AS took_part
FROM served s
JOIN {campaigns} campaigns ON campaigns.campaign_id = s.campaign_id
LEFT JOIN came ON came.user_id = s.user_id AND came.campaign_id = s.campaign_id
WHERE campaigns.ends_at <= make_timestamptz({log_end_us}::BIGINT) AND s.as_of < campaigns.ends_at
    AND len(list_filter(coalesce(came.times, []), lambda t: t < s.as_of)) = 0
ORDER BY s.user_id, s.campaign_id
"""


@dataclass(frozen=True, eq=False)
class ServedPairs:
    """Pairs whose horizon has ended."""

    users: pa.Array
    campaigns: pa.Array
    types: pa.Array
    score_N: NDArray[np.float64]
    took_part_N: NDArray[np.float64]


def served_pairs(tables: Tables, settings: Settings) -> ServedPairs:
    """What was served and what came of it, as far as both are known."""
    from recommender.datasets.periods import microseconds

    def table(name: str) -> str:
        literal = tables.glob(name).replace("'", "''")
        return f"read_parquet('{literal}', hive_partitioning = false)"

    query = PAIRS.format(
        participations=table("participations"),
        campaigns=table("campaigns"),
        campaign_type="campaigns.campaign_type" if tables.has("campaigns", "campaign_type") else "campaigns.kind",
        log_end_us=microseconds(tables.log_end),
    )
    with open_decisions(settings) as connection:
        found = connection.execute(query).to_arrow_table()
    return ServedPairs(
        users=found["user_id"],
        campaigns=found["campaign_id"],
        types=found["campaign_type"],
        score_N=found["score"].to_numpy().astype(np.float64),
        took_part_N=found["took_part"].to_numpy(zero_copy_only=False).astype(np.float64),
    )


def calibration(tables: Tables, settings: Settings) -> tuple[list[Served], str]:
    """Figures for all pairs and for each campaign type, and a note where nothing can be said.

    Returns:
        The figures, and why there are none. One of both is empty.
    """
    limits = settings.monitoring
    pairs = served_pairs(tables, settings)
    if not len(pairs.score_N):
        return [], "No served campaign has ended yet within the log, so nothing can be said about what was served."
    found = figures(pairs, limits)
    if any(one.judged for one in found):
        return found, ""
    most = found[0]
    return found, (
        f"{most.pairs:,} served pairs of {most.campaigns} ended campaigns add up to {most.expected:.1f} expected "
        f"participations: too few for a judgement, which needs {limits.min_expected:g} and "
        f"{limits.min_campaigns} campaigns."
    )


def figures(pairs: ServedPairs, limits: MonitoringSettings) -> list[Served]:
    """Of all pairs together, and of each campaign type."""
    types_N = np.array([kind or "" for kind in pairs.types.to_pylist()], dtype=object)
    everyone = np.ones(len(types_N), dtype=bool)
    masks = {ALL: everyone, **{name: types_N == name for name in sorted(set(types_N) - {ALL})}}
    return [_served(name, pairs, mask_N, limits, len(masks)) for name, mask_N in masks.items()]


def calibration_findings(found: list[Served], limits: MonitoringSettings) -> list[Finding]:
    """One for each campaign type, or all together, whose probabilities are off beyond the limit and beyond chance."""
    findings = []
    for one in found:
        if not one.judged or one.ratio is None or one.low is None or one.high is None:
            continue
        factor, by_chance = error_factor(one.ratio), one.low <= 1 <= one.high
        if by_chance or factor <= limits.max_calibration_factor:
            continue
        where = f"campaigns of type {one.campaign_type}" if one.campaign_type else "all campaigns"
        direction = "fewer" if one.ratio < 1 else "more"
        findings.append(
            Finding(
                kind="calibration",
                about=f"calibration of {where}",
                breaks=True,
                words=(
                    f"{where}: {one.expected:.0f} participations were promised by what was served and {one.observed} "
                    f"came, {direction} by a factor of {factor:.2f} over campaigns "
                    f"(interval {one.low:.2f} to {one.high:.2f} of observed over expected); "
                    f"monitoring.max_calibration_factor is {limits.max_calibration_factor:g}."
                ),
                remedy=REMEDY,
                measured=factor,
                limit=limits.max_calibration_factor,
            )
        )
    return findings


def _served(name: str, pairs: ServedPairs, mask_N: NDArray[np.bool_], limits: MonitoringSettings, count: int) -> Served:
    campaigns_N, users_N = (_numbers(column, mask_N) for column in (pairs.campaigns, pairs.users))
    scored = ScoredPairs(pairs.took_part_N[mask_N], pairs.score_N[mask_N], users_N)
    confidence = 1 - (1 - CONFIDENCE) / count
    found, _ = reliability(
        {"served": scored}, campaigns_N, challenger="served", champion="served", confidence=confidence, with_ece=False
    )
    over = found["served"].over_campaigns
    interval = None if over is None else over.interval(confidence)
    expected, observed = float(scored.score_N.sum()), int(scored.redeemed_N.sum())
    num_campaigns = len(set(campaigns_N.tolist()))
    enough = max(expected, observed) >= limits.min_expected and num_campaigns >= limits.min_campaigns
    return Served(
        campaign_type=name,
        pairs=len(scored.score_N),
        campaigns=num_campaigns,
        expected=expected,
        observed=observed,
        ratio=None if over is None else over.value,
        low=None if interval is None else interval[0],
        high=None if interval is None else interval[1],
        log_loss=float(log_losses(scored).mean()),
        judged=enough and interval is not None,
    )


def _numbers(column: pa.ChunkedArray, mask_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each pair's number of its user or campaign, int64 [N]."""
    codes = column.combine_chunks().dictionary_encode().indices.to_numpy()[mask_N]
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
