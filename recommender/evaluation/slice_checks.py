"""The gate's conditions on slices: AUC, and expected against observed take-up."""

from recommender.evaluation.checks import Check
from recommender.evaluation.document import Evaluation, SliceResult
from recommender.evaluation.judgement import Guardrails
from recommender.evaluation.reliability import error_factor, judged_slices, unreliable


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
    failed = [
        part
        for part in judged
        if unreliable(part, challenger, champion, limits, confidence=evaluation.confidence, slices=len(judged))
    ]
    if failed:
        return [_misjudged(part, challenger, champion, limit) for part in failed]
    largest = max((_factor(part, challenger) for part in judged), default=None)
    words = (
        f"in none of {len(judged)} slices is the expected take-up off by more than a factor of {limit:g}, beyond "
        f"chance and further than the champion's (largest factor {largest:.2f})"
        if largest is not None
        else "no slice has enough pairs, participations and campaigns for a judgement of its take-up"
    )
    return [Check(name="take-up in slices", passed=True, measured=largest, limit=limit, words=words)]


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
