"""How every feature moved since the champion's training: of users, of campaigns, and of users with their candidates."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from recommender.matching.catalogue import Catalogue
from recommender.monitoring.campaigns import CampaignFeatures, CandidateFeatures
from recommender.monitoring.columns import ColumnChange
from recommender.monitoring.deals import Sides, by_users, deal
from recommender.monitoring.distributions import Distribution, Shift, shift, shift_of
from recommender.monitoring.findings import FeatureDrift, Finding, Over
from recommender.monitoring.importance import importances
from recommender.monitoring.reference import Reference, column, feature_names
from recommender.registry import bundle
from recommender.settings import MonitoringSettings

BY_DRAWS = "share of the change of the champion's log-odds when a feature's value is drawn anew from its training"
EVENLY = "the same for each feature, and no drift breaks a limit: the champion reads none of them"
RETRAIN = (
    "If the shop changed, train again: recommender run. If it did not, look at the tables that the feature is from."
)
FAMILIES = 3
"""Features of users, of campaigns, and of both together. Each may spend a third of `false_alarm`."""
OF_USERS = 0.1
"""Share of the false alarms of cross features that chance among users may spend. Little, because a level ten times
lower costs a tenth of the distance there, and one of campaigns may not be reached at all. By hand."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What moved, and how that was found."""

    features: tuple[FeatureDrift, ...] = ()
    """By importance times drift."""
    importance: str = EVENLY
    """How the importance was measured, in words."""
    campaigns: str = ""
    """How many campaigns were compared, in words."""

    @property
    def matters(self) -> bool:
        """Whether the champion reads features, so that a drift may break a limit."""
        return self.importance == BY_DRAWS


@dataclass(frozen=True, kw_only=True)
class _Moved:
    over: Over
    before: Distribution
    shift: Shift
    missing_rise: float
    ks: float
    ks_p: float
    ks_by_chance: float | None = None


def drift(
    reference: Reference | None,
    users: pa.Table,
    features: Path,
    as_of: datetime,
    change: ColumnChange | None,
    champion: Path,
    limits: MonitoringSettings,
) -> Drift:
    """Compare every feature that both have.

    Args:
        reference: the champion's.
        users: of the newest feature set, at its moment.
        features: its folder.
        as_of: its moment.
        change: how its columns differ from the champion's.
        champion: folder of the champion's bundle.
        limits: the probability of a false alarm.
    """
    if reference is None:
        return Drift()
    each = limits.false_alarm / FAMILIES
    catalogue = Catalogue.load(features / "catalogue")
    found = _of_users(reference, users, each)
    of_campaigns, campaigns_note = _of_campaigns(reference.campaigns, catalogue, as_of, each)
    of_pairs, pairs_note = _of_pairs(reference.candidates, users, catalogue, as_of, each)
    found |= of_campaigns | of_pairs
    notes = " ".join(note for note in (campaigns_note, pairs_note) if note)
    if not found:
        return Drift(campaigns=notes)
    importance = dict.fromkeys(found, 0.0)
    if change is None or not change.vanished:
        trained_on = {name: (moved.over, moved.before) for name, moved in found.items()}
        importance = importances(bundle.load(champion), users, catalogue, trained_on)
    reads = any(importance.values())
    moved = [_feature(name, one, importance[name] if reads else 1 / len(found)) for name, one in found.items()]
    moved.sort(key=lambda one: (-one.weight, -one.psi, one.name))
    return Drift(features=tuple(moved), importance=BY_DRAWS if reads else EVENLY, campaigns=notes)


def drift_findings(drift: Drift, limits: MonitoringSettings) -> list[Finding]:
    """Features that moved beyond chance and beyond the limit, or that are missing more often.

    They break the limit where they matter: the champion reads features, and enough of its importance is theirs.
    """
    findings = []
    for one in drift.features:
        matters = drift.matters and one.importance >= limits.min_importance
        weight = f"it has {one.importance:.1%} of all importance"
        if one.missing_rise > limits.max_missing_increase:
            findings.append(
                Finding(
                    kind="missing",
                    about=f"missing values of {one.name}",
                    breaks=matters,
                    words=(
                        f"{one.name}: missing for {one.missing_now:.1%} of the {one.over}, and for "
                        f"{one.missing_before:.1%} when the champion was trained; monitoring.max_missing_increase is "
                        f"{limits.max_missing_increase:g}, and {weight}."
                    ),
                    remedy="Look whether the table that it is made from is still complete (recommender validate).",
                    measured=one.missing_rise,
                    limit=limits.max_missing_increase,
                )
            )
        if one.psi > limits.max_psi and one.moved:
            findings.append(
                Finding(
                    kind="drift",
                    about=f"drift of {one.name}",
                    breaks=matters,
                    words=f"{one.name}: {_distance(one)}; monitoring.max_psi is {limits.max_psi:g}, and {weight}.",
                    remedy=RETRAIN,
                    measured=one.psi,
                    limit=limits.max_psi,
                )
            )
    return findings


def _distance(one: FeatureDrift) -> str:
    if one.ks_by_chance is not None:
        return (
            f"population stability index {one.psi:.2f} over the {one.over}, KS {one.ks:.2f} (by chance at most "
            f"{one.ks_by_chance:.2f}, where whole campaigns are dealt anew)"
        )
    return f"population stability index {one.psi:.2f} (by chance at most {one.psi_by_chance:.2f}), KS {one.ks:.2f}"


def _of_users(reference: Reference, users: pa.Table, false_alarm: float) -> dict[str, _Moved]:
    names = [name for name in feature_names(users) if name in reference.features]
    found = {}
    for name in names:
        # Bonferroni: the false alarm is that of all features together.
        moved = shift(reference.features[name], column(users, name), false_alarm=false_alarm / len(names))
        found[name] = _Moved(
            over="users",
            before=reference.features[name],
            shift=moved,
            missing_rise=moved.missing_rise,
            ks=moved.ks,
            ks_p=moved.ks_p,
        )
    return found


def _of_campaigns(
    before: CampaignFeatures | None, catalogue: Catalogue, as_of: datetime, false_alarm: float
) -> tuple[dict[str, _Moved], str]:
    if before is None:
        return {}, ""
    now = CampaignFeatures.live(catalogue, as_of)
    words = f"Features of campaigns: {before.num_campaigns} in training, {now.num_campaigns} live now"
    names = [name for name in now.features if name in before.features]
    if not names or not before.num_campaigns or not now.num_campaigns:
        return {}, f"{words}: nothing to compare."
    dealt = deal(
        {name: Sides.of_values(before.values(name), now.values(name)) for name in names}, false_alarm=false_alarm
    )
    found = {}
    for name in names:
        earlier = Distribution.of(before.values(name))
        moved = shift(earlier, now.values(name), false_alarm=false_alarm)
        found[name] = _moved("campaigns", earlier, moved, dealt.distances[name], dealt.p[name], dealt.by_chance)
    return found, _told(words, dealt.can_tell)


def _of_pairs(
    before: CandidateFeatures | None, users: pa.Table, catalogue: Catalogue, as_of: datetime, false_alarm: float
) -> tuple[dict[str, _Moved], str]:
    if before is None:
        return {}, ""
    bins = {name: counts.edges for name, counts in before.features.items()}
    now = CandidateFeatures.of(users, catalogue, as_of, bins=bins)
    words = f"Cross features: candidates among {before.num_campaigns} campaigns then and {now.num_campaigns} now"
    if not now.features or not before.features:
        return {}, f"{words}: nothing to compare."
    sides = {name: Sides(before.features[name].shares_CB, one.shares_CB) for name, one in now.features.items()}
    dealt = deal(sides, false_alarm=false_alarm * (1 - OF_USERS))
    users_by_chance = by_users(before.num_users, now.num_users, false_alarm=false_alarm * OF_USERS / len(sides))
    by_chance = math.hypot(dealt.by_chance, users_by_chance)
    found = {}
    for name, one in now.features.items():
        earlier = before.features[name].all_pairs
        moved = shift_of(earlier, one.all_pairs, false_alarm=false_alarm)
        found[name] = _moved("pairs", earlier, moved, dealt.distances[name], dealt.p[name], by_chance)
    return found, _told(words, dealt.can_tell)


def _told(words: str, can_tell: bool) -> str:
    return f"{words}." if can_tell else f"{words}: too few to tell a drift from chance, so none is called one."


def _moved(over: Over, before: Distribution, shift: Shift, ks: float, p: float, by_chance: float) -> _Moved:
    """A feature that was judged by whole campaigns."""
    rise = shift.missing[1] - shift.missing[0]
    return _Moved(
        over=over,
        before=before,
        shift=shift,
        # Its share is one of the distances that were dealt anew.
        missing_rise=rise if rise > by_chance else 0.0,
        ks=ks,
        ks_p=p,
        ks_by_chance=min(by_chance, 1.0),
    )


def _feature(name: str, moved: _Moved, importance: float) -> FeatureDrift:
    found = moved.shift
    return FeatureDrift(
        name=name,
        over=moved.over,
        importance=importance,
        psi=found.psi,
        psi_by_chance=found.psi_by_chance if moved.ks_by_chance is None else None,
        ks=moved.ks,
        ks_p=moved.ks_p,
        ks_by_chance=moved.ks_by_chance,
        missing_before=found.missing[0],
        missing_now=found.missing[1],
        missing_rise=moved.missing_rise,
        bins=found.bins,
    )


def not_compared(reference: Reference | None) -> Iterable[Finding]:
    """That the champion's reference has no distributions of campaigns, where it is of an earlier release."""
    if reference is not None and (reference.campaigns is None or reference.candidates is None):
        yield Finding(
            kind="reference",
            about="campaigns in the champion's reference",
            breaks=False,
            words="the champion was trained by a release that kept no distributions of campaigns, so features of "
            "campaigns and cross features are not compared.",
            remedy="A version that this release trains has them: recommender run.",
        )
