"""The verdict of the gate: PROMOTE the challenger to canary, or HOLD it, with the reasons in words.

A challenger is promoted only if the interval of its gain in the primary metric, over users and campaigns, excludes a
loss beyond the margin, and no guardrail fails. That is a non-inferiority test (Wellek, Testing Statistical Hypotheses
of Equivalence and Noninferiority, 2010). With margin 0 the challenger must be better. How wide the interval is depends
on how many attempts the gate period has seen, see `ledger`. The verdict reads the gate period alone, never the final
test.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.errors import CorruptFileError, SettingsError
from recommender.evaluation.campaign_gains import PooledGain
from recommender.evaluation.checks import Check
from recommender.evaluation.document import Estimate, Evaluation, Latency
from recommender.evaluation.judgement import Guardrails, Judgement
from recommender.evaluation.ledger import Attempt, next_attempt
from recommender.evaluation.list_checks import list_checks
from recommender.evaluation.metrics import METRICS
from recommender.evaluation.slice_checks import auc_checks, take_up_checks
from recommender.storage.manifest import SHOWN_DIGITS, digest

PROMOTE: Literal["PROMOTE"] = "PROMOTE"
HOLD: Literal["HOLD"] = "HOLD"


class Verdict(BaseModel):
    """The gate's decision and its reasons. `subject` is a hash of what was judged, which is judged only once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["PROMOTE", "HOLD"]
    headline: str
    reasons: list[str]
    checks: list[Check]
    challenger: str
    champion: str
    """Challenger and champion are versions of the registry."""
    primary_metric: str
    gain: Estimate
    """Over users and campaigns, with the interval that decided."""
    num_campaigns: int
    """Campaigns that decided."""
    attempt: Attempt | None
    """What it spent of the gate period's allowance. None if it could not have promoted: too little data."""
    margin: float
    judgement_sha256: str
    subject: str
    new: bool = True
    """False if the challenger is the champion, or was judged before."""

    @property
    def promotes(self) -> bool:
        """Whether the challenger becomes the canary."""
        return self.decision == PROMOTE

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a verdict from a JSON file.

        Raises:
            CorruptFileError: the file is missing or holds no verdict.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise CorruptFileError(f"{path}: cannot be read as a verdict ({error}); run the gate again") from None


def decide(
    evaluation: Evaluation,
    judgement: Judgement,
    *,
    earlier: Iterable[Mapping[str, Any]] = (),
    attempts: Iterable[Attempt] = (),
) -> Verdict:
    """Decide on a challenger by its evaluation.

    Args:
        evaluation: challenger and champion on the same pairs.
        judgement: the rules.
        earlier: earlier verdicts on the challenger (`Registry.settled(version)`).
        attempts: attempts on gate periods that overlap with this one (`ledger.attempts`).

    Raises:
        SettingsError: the evaluation was made under other rules.
    """
    if evaluation.judgement_sha256 != judgement.sha256:
        raise SettingsError(
            f"the evaluation was made under the rules with SHA-256 {evaluation.judgement_sha256[:SHOWN_DIGITS]}, but "
            f"the judgement file now has {judgement.sha256[:SHOWN_DIGITS]}; evaluate again"
        )
    challenger = evaluation.candidates[evaluation.challenger]
    champion = evaluation.candidates[evaluation.champion]
    metric = judgement.gate.primary_metric
    subject = digest(challenger.version, champion.version, evaluation.data_hash, judgement.sha256)
    attempt = next_attempt(
        attempts,
        subject=subject,
        challenger=challenger.version,
        champion=champion.version,
        gate_from=evaluation.gate.starts,
        gate_to=evaluation.gate.ends,
        false_promotions=judgement.gate.false_promotions,
    )
    gain = _gain(evaluation.gate.pooled.get(metric), attempt)
    enough = [_campaigns(evaluation, judgement), _positives(evaluation, judgement)]
    primary = _primary(gain, judgement, attempt)
    checks = [*enough, primary, *_guardrails(evaluation, judgement.guardrails)]
    same_subject = [verdict for verdict in earlier if verdict.get("subject") == subject]
    failed = [check.words for check in checks if not check.passed]
    decision: Literal["PROMOTE", "HOLD"] = HOLD
    nothing_new = _nothing_new(challenger.version == champion.version, same_subject)
    if nothing_new:
        headline = nothing_new
        reasons = [nothing_new, *_reasons_of_last(same_subject)]
    elif failed:
        headline = _sentence(failed[0])
        reasons = [_sentence(words) for words in failed]
    else:
        decision = PROMOTE
        headline = f"{evaluation.challenger} becomes the canary beside {evaluation.champion}: {primary.words}."
        reasons = [_sentence(check.words) for check in checks]
    return Verdict(
        decision=decision,
        headline=headline,
        reasons=reasons,
        checks=checks,
        challenger=challenger.version,
        champion=champion.version,
        primary_metric=metric,
        gain=gain,
        num_campaigns=_num_campaigns(evaluation, metric),
        attempt=attempt if not nothing_new and all(check.passed for check in enough) else None,
        margin=judgement.gate.margin,
        judgement_sha256=judgement.sha256,
        subject=subject,
        new=not nothing_new,
    )


def _reasons_of_last(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(reason) for reason in verdicts[-1].get("reasons", [])] if verdicts else []


def _nothing_new(is_champion: bool, same_subject: Sequence[Mapping[str, Any]]) -> str:
    """Say why there is nothing to judge, or return an empty text."""
    if is_champion:
        return "Nothing new: the challenger is the champion (same data, configuration, ranker and code)."
    if same_subject:
        decision = same_subject[-1]["decision"]
        return f"Nothing new: this challenger was judged against this champion on the same data before ({decision})."
    return ""


def _gain(pooled: PooledGain | None, attempt: Attempt) -> Estimate:
    """Return the gain with the interval that the attempt allows."""
    if pooled is None:
        return Estimate(value=None, low=None, high=None)
    low, high = pooled.interval(attempt.confidence) or (None, None)
    return Estimate(value=pooled.value, low=low, high=high)


def _num_campaigns(evaluation: Evaluation, metric: str) -> int:
    pooled = evaluation.gate.pooled.get(metric)
    return 0 if pooled is None else len(pooled.campaigns)


def _campaigns(evaluation: Evaluation, judgement: Judgement) -> Check:
    count, least = _num_campaigns(evaluation, judgement.gate.primary_metric), judgement.gate.min_campaigns
    title = METRICS[judgement.gate.primary_metric].title
    words = f"the gate period has {count} campaigns that define the gain in {title}, and at least {least} are needed"
    if count < least:
        words += ", since rankers differ by chance in each campaign; set `time.gate_from` earlier"
    return Check(name="campaigns", passed=count >= least, measured=count, limit=least, words=words)


def _positives(evaluation: Evaluation, judgement: Judgement) -> Check:
    positives, least = evaluation.gate.num_positives, judgement.gate.min_positives
    words = (
        f"the gate period has {positives} participations among {evaluation.gate.num_pairs:,} pairs, "
        f"and at least {least} are needed"
    )
    return Check(name="participations", passed=positives >= least, measured=positives, limit=least, words=words)


def _primary(gain: Estimate, judgement: Judgement, attempt: Attempt) -> Check:
    rule = judgement.gate
    title = METRICS[rule.primary_metric].title
    name = f"gain in {title}, lower end"
    if gain.low is None or gain.value is None or gain.high is None:
        return Check(
            name=name, passed=False, measured=None, limit=-rule.margin, words=f"the gain in {title} is not defined"
        )
    passed = gain.low > -rule.margin
    shown = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    if rule.margin == 0:
        rule_words = "lies above zero" if passed else "does not lie above zero, so it is not shown to be better"
    else:
        verb = "excludes" if passed else "does not exclude"
        rule_words = f"{verb} a loss beyond the margin of {rule.margin:g}"
    words = (
        f"the gain in {title} is {shown} and its {_percent(attempt.confidence)} interval over users and campaigns "
        f"{rule_words} (attempt {attempt.number} on this gate period)"
    )
    return Check(name=name, passed=passed, measured=gain.low, limit=-rule.margin, words=words)


def _percent(share: float) -> str:
    """Write a level with as many digits as tell it from 100 %."""
    return f"{100 * share:.5g}%"


def _guardrails(evaluation: Evaluation, limits: Guardrails) -> list[Check]:
    challenger = evaluation.candidates[evaluation.challenger]
    ece = evaluation.gate.rankers[evaluation.challenger].excess_ece
    increase = ece - evaluation.gate.rankers[evaluation.champion].excess_ece
    checks = [
        _limit("calibration", ece, limits.max_ece, "calibration error beyond chance is {:.4f}, limit {:.4f}"),
        _limit(
            "calibration against the champion",
            increase,
            limits.max_ece_increase,
            "calibration error beyond chance changes by {:+.4f} against the champion, limit {:+.4f}",
        ),
    ]
    checks += [*auc_checks(evaluation, limits), *take_up_checks(evaluation, limits)]
    checks += list_checks(evaluation.gate.lists, limits)
    if challenger.latency is None:
        words = "latency was not measured, because no campaign is live at as_of"
        checks.append(Check(name="latency", passed=True, measured=None, limit=limits.max_latency_ms, words=words))
    else:
        checks.append(_latency(challenger.latency, limits.max_latency_ms))
    words = "the bundle has {:.2f} MiB, limit {:.0f} MiB"
    checks.append(_limit("bundle size", challenger.bundle_mib, limits.max_bundle_mib, words))
    return checks


def _latency(latency: Latency, limit_ms: float) -> Check:
    """A figure that other programs disturbed can only be too high. Above the limit it decides nothing.

    Unless even the median is above it: that of twenty users, each at the fastest of sixty rounds.
    """
    disturbed = not latency.stable and latency.p95_ms > limit_ms >= latency.p50_ms
    words = f"scoring one user takes {latency.p95_ms:.1f} ms at the 95th percentile, limit {limit_ms:.1f} ms"
    if disturbed:
        words += f", but other programs disturbed all {latency.num_rounds} rounds, so it does not count"
    passed = latency.p95_ms <= limit_ms or disturbed
    return Check(name="latency", passed=passed, measured=latency.p95_ms, limit=limit_ms, words=words)


def _limit(name: str, measured: float, limit: float, words: str) -> Check:
    return Check(
        name=name, passed=measured <= limit, measured=measured, limit=limit, words=words.format(measured, limit)
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
