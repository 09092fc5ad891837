"""Guardrails on the lists that serving would give: a challenger must not hide campaigns or serve a group worse.

A limit fails only if the interval of the difference, over users, excludes zero too. So a difference by chance alone
holds an equal challenger in at most 2.5 % of gate periods for each of the two (`make bench-decision`).
"""

from collections.abc import Mapping

from recommender.evaluation.checks import Check
from recommender.evaluation.document import Estimate, ListResult
from recommender.evaluation.judgement import Guardrails
from recommender.evaluation.list_results import COVERAGE, OPPORTUNITY_GAP


def list_checks(lists: ListResult | None, limits: Guardrails) -> list[Check]:
    """Compare the lists of challenger and champion. Without lists, or where a figure is not defined, a check passes."""
    return checks_of({} if lists is None else lists.differences, limits)


def checks_of(differences: Mapping[str, Estimate], limits: Guardrails) -> list[Check]:
    """Judge the differences of metrics, challenger minus champion."""
    return [
        _check(
            "campaign coverage",
            differences.get(COVERAGE),
            sign=-1,
            limit=limits.max_coverage_drop,
            words="the share of the live campaigns that the lists show drops by {:+.3f} against the champion",
        ),
        _check(
            "opportunity gap",
            differences.get(OPPORTUNITY_GAP),
            sign=1,
            limit=limits.max_opportunity_gap_increase,
            words="the gap between the best and the worst served shoppers grows by {:+.3f} against the champion",
        ),
    ]


def _check(name: str, difference: Estimate | None, *, sign: int, limit: float, words: str) -> Check:
    """Judge how much worse a figure is: `sign` times the difference."""
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return Check(name=name, passed=True, measured=None, limit=limit, words=f"the {name} could not be measured")
    worse = sign * difference.value
    least = difference.low if sign > 0 else -difference.high
    excluded = "excludes" if least > 0 else "does not exclude"
    return Check(
        name=name,
        passed=worse <= limit or least <= 0,
        measured=worse,
        limit=limit,
        words=f"{words.format(worse)} and the interval {excluded} zero, limit {limit:g}",
    )
