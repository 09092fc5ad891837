"""The gate's verdict: PROMOTE to canary, or HOLD, with the reason in words.

A challenger is promoted only when the interval of the primary metric's gain excludes a loss beyond the margin (a
non-inferiority test: Wellek, Testing Statistical Hypotheses of Equivalence and Noninferiority, 2010; with margin 0 it must be
better) and no guardrail fails. The verdict reads the gate period alone; the final test is not an input.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.errors import CorruptFileError, SettingsError
from recommender.evaluation.document import Estimate, Evaluation
from recommender.evaluation.judgement import Guardrails, Judgement
from recommender.evaluation.metrics import METRICS
from recommender.storage.manifest import digest

PROMOTE: Literal["PROMOTE"] = "PROMOTE"
HOLD: Literal["HOLD"] = "HOLD"


class Check(BaseModel):
    """One thing that was judged: what was measured, its limit, and whether it was kept. `words`: the whole in a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    measured: float | None
    limit: float | None
    words: str


class Verdict(BaseModel):
    """What the gate decided and why. `subject` identifies what was judged: the same subject is never judged twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["PROMOTE", "HOLD"]
    headline: str
    reasons: list[str]
    checks: list[Check]
    challenger: str
    champion: str
    """Versions."""
    primary_metric: str
    gain: Estimate
    margin: float
    judgement_sha256: str
    subject: str
    new: bool = True
    """False: the challenger is the champion, or this was judged before."""

    @property
    def promotes(self) -> bool:
        return self.decision == PROMOTE

    @classmethod
    def read(cls, path: Path) -> Self:
        """The verdict of a JSON file.

        Raises:
            CorruptFileError: it is none.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise CorruptFileError(f"{path}: not a verdict ({error}); run the gate again") from None


def decide(evaluation: Evaluation, judgement: Judgement, *, earlier: Iterable[Mapping[str, Any]] = ()) -> Verdict:
    """Judge a challenger by its evaluation. `earlier`: what was said of it before (`Registry.settled(version)`).

    Raises:
        SettingsError: the evaluation was made under another judgement file.
    """
    if evaluation.judgement_sha256 != judgement.sha256:
        raise SettingsError(
            f"the evaluation was made under another judgement file (SHA-256 {evaluation.judgement_sha256[:12]}, now "
            f"{judgement.sha256[:12]}); evaluate again"
        )
    challenger = evaluation.candidates[evaluation.challenger]
    champion = evaluation.candidates[evaluation.champion]
    metric = judgement.gate.primary_metric
    checks = [_positives(evaluation, judgement), _primary(evaluation, judgement)]
    checks += _guardrails(evaluation, judgement.guardrails)
    subject = digest(challenger.version, champion.version, evaluation.data_hash, judgement.sha256)
    before = [verdict for verdict in earlier if verdict.get("subject") == subject]
    known = [str(verdict["decision"]) for verdict in before]
    failed = [check.words for check in checks if not check.passed]
    decision: Literal["PROMOTE", "HOLD"] = HOLD
    nothing_new = _nothing_new(challenger.version == champion.version, known)
    if nothing_new:
        headline = nothing_new
    elif failed:
        headline = _sentence(failed[0])
    else:
        decision = PROMOTE
        headline = f"{evaluation.challenger} becomes the canary beside {evaluation.champion}: {checks[1].words}."
    return Verdict(
        decision=decision,
        headline=headline,
        reasons=[nothing_new, *_reasons(before)]
        if nothing_new
        else [_sentence(words) for words in failed or [c.words for c in checks]],
        checks=checks,
        challenger=challenger.version,
        champion=champion.version,
        primary_metric=metric,
        gain=evaluation.gate.gains[metric],
        margin=judgement.gate.margin,
        judgement_sha256=judgement.sha256,
        subject=subject,
        new=not nothing_new,
    )


def _reasons(before: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the last verdict on the same subject was what it was."""
    return [str(reason) for reason in before[-1].get("reasons", [])] if before else []


def _nothing_new(same: bool, known: list[str]) -> str:
    if same:
        return "Nothing new: the challenger is the champion (same data, configuration, ranker and code)."
    if known:
        return f"Nothing new: this challenger was judged against this champion on the same data before ({known[-1]})."
    return ""


def _positives(evaluation: Evaluation, judgement: Judgement) -> Check:
    found, least = evaluation.gate.num_positives, judgement.gate.min_positives
    words = f"the gate period holds {found} participations among {evaluation.gate.num_pairs:,} pairs; at least {least} are needed"
    return Check(name="participations", passed=found >= least, measured=found, limit=least, words=words)


def _primary(evaluation: Evaluation, judgement: Judgement) -> Check:
    rule = judgement.gate
    gain = evaluation.gate.gains[rule.primary_metric]
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
        excludes = "excludes" if passed else "does not exclude"
        rule_words = f"{excludes} a loss beyond the margin of {rule.margin:g}"
    words = f"the gain in {title} is {shown} and its {rule.confidence:.0%} interval {rule_words}"
    return Check(name=name, passed=passed, measured=gain.low, limit=-rule.margin, words=words)


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
    checks += _slice_checks(evaluation, limits)
    if challenger.latency is None:
        words = "latency was not measured, because no campaign is live at as_of"
        checks.append(Check(name="latency", passed=True, measured=None, limit=limits.max_latency_ms, words=words))
    else:
        words = "scoring one user takes {:.1f} ms at the 95th percentile, limit {:.1f} ms"
        checks.append(_limit("latency", challenger.latency.p95_ms, limits.max_latency_ms, words))
    words = "the bundle has {:.2f} MiB, limit {:.0f} MiB"
    checks.append(_limit("bundle size", challenger.bundle_mib, limits.max_bundle_mib, words))
    return checks


def _slice_checks(evaluation: Evaluation, limits: Guardrails) -> list[Check]:
    """One check a slice that lost too much, or one for all of them together."""
    judged = [part for part in evaluation.gate.slices if part.judged and part.auc_gain is not None]
    failed, worst = [], 0.0
    for part in judged:
        gain = part.auc_gain
        if gain is None or gain.value is None or gain.high is None:
            continue
        worst = max(worst, -gain.value)
        if -gain.value > limits.max_slice_auc_drop and gain.high < 0:
            words = (
                f"where {part.axis} is {part.value} ({part.num_pairs:,} pairs) AUC drops by {-gain.value:.3f} and the interval "
                f"excludes zero, limit {limits.max_slice_auc_drop:g}"
            )
            failed.append(
                Check(
                    name=f"slice {part.axis} = {part.value}",
                    passed=False,
                    measured=-gain.value,
                    limit=limits.max_slice_auc_drop,
                    words=words,
                )
            )
    if failed:
        return failed
    words = (
        f"in none of {len(judged)} slices does AUC drop beyond {limits.max_slice_auc_drop:g} for sure (largest drop {worst:.3f})"
        if judged
        else "no slice is large enough to be judged"
    )
    return [Check(name="slices", passed=True, measured=worst, limit=limits.max_slice_auc_drop, words=words)]


def _limit(name: str, measured: float, limit: float, words: str) -> Check:
    return Check(
        name=name, passed=measured <= limit, measured=measured, limit=limit, words=words.format(measured, limit)
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
