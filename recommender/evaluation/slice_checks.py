"""The gate's conditions on slices: AUC, and expected against observed take-up."""

from recommender.evaluation.checks import Check
from recommender.evaluation.document import Evaluation, SliceResult
from recommender.evaluation.judgement import Guardrails
from recommender.evaluation.reliability import error_factor, judged_slices, why_reliable


def auc_checks(evaluation: Evaluation, limits: Guardrails) -> list[Check]:
    """Return one failed check for each slice that lost too much AUC, or else one passed check for all slices."""
    judged = [part for part in evaluation.gate.slices if part.judged and part.auc_gain is not None]
    limit = limits.max_slice_auc_drop
    failed, largest_drop = [], 0.0
    for part in judged:
        gain = part.auc_gain
        if gain is None or gain.value is None or gain.high is None:
            continue
        drop = -gain.value
        largest_drop = max(largest_drop, drop)
        if drop > limit and gain.high < 0:
            words = (
                f"where {part.axis} is {part.value} ({part.num_pairs:,} pairs), AUC drops by {drop:.3f} "
                f"and the interval excludes zero, limit {limit:g}"
            )
            name = f"slice {part.axis} = {part.value}"
            failed.append(Check(name=name, passed=False, measured=drop, limit=limit, words=words))
    if failed:
        return failed
    words = (
        f"in none of {len(judged)} slices does AUC drop by more than {limit:g} with an interval that excludes zero "
        f"(largest drop {largest_drop:.3f})"
        if judged
        else "no slice is large enough to be judged"
    )
    return [Check(name="slices", passed=True, measured=largest_drop, limit=limit, words=words)]


def take_up_checks(evaluation: Evaluation, limits: Guardrails) -> list[Check]:
    """Return one failed check for each slice whose take-up the challenger misjudges, or else one passed check."""
    challenger, champion = evaluation.challenger, evaluation.champion
    judged = judged_slices(evaluation.gate.slices, limits)
    limit = limits.max_slice_take_up_error
    why = [
        why_reliable(part, challenger, champion, limits, confidence=evaluation.confidence, slices=len(judged))
        for part in judged
    ]
    failed = [part for part, reason in zip(judged, why, strict=True) if reason is None]
    if failed:
        return [_misjudged(part, challenger, champion, limit) for part in failed]
    if not judged:
        words = "no slice has enough pairs, participations and campaigns for a judgement of its take-up"
        return [Check(name="take-up in slices", passed=True, measured=None, limit=limit, words=words)]
    factors = [_factor(part, challenger) for part in judged]
    place = max(range(len(judged)), key=factors.__getitem__)
    shown = sum(bool(part.reliability) for part in evaluation.gate.slices)
    counted = f"{len(judged)} slices"
    if shown > len(judged):
        counted += f" (of {shown} shown; a judgement needs {limits.min_slice_campaigns} campaigns)"
    words = (
        f"none of {counted} is misjudged: off by more than a factor of {limit:g}, beyond chance and further than the "
        f"champion. The largest factor, {factors[place]:.2f} where {judged[place].axis} is {judged[place].value}, "
        f"passes: {why[place]}"
    )
    return [Check(name="take-up in slices", passed=True, measured=factors[place], limit=limit, words=words)]


def _misjudged(part: SliceResult, challenger: str, champion: str, limit: float) -> Check:
    factor, champions = (_factor(part, name) for name in (challenger, champion))
    expected = part.reliability[challenger].expected
    words = (
        f"where {part.axis} is {part.value} ({part.num_pairs:,} pairs), {expected:.0f} participations were expected "
        f"and {part.num_positives} observed: over users and campaigns off by a factor of {factor:.2f}, "
        f"limit {limit:g}, and the champion by {champions:.2f}"
    )
    name = f"take-up in slice {part.axis} = {part.value}"
    return Check(name=name, passed=False, measured=factor, limit=limit, words=words)


def _factor(part: SliceResult, ranker: str) -> float:
    over = part.reliability[ranker].over_campaigns
    return 1.0 if over is None else error_factor(over.value)
