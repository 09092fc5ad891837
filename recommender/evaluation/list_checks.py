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
            figure="the share of the live campaigns that the lists show",
        ),
        _check(
            "opportunity gap",
            differences.get(OPPORTUNITY_GAP),
            sign=1,
            limit=limits.max_opportunity_gap_increase,
            figure="the gap between the best and the worst served shoppers",
        ),
    ]


def _check(name: str, difference: Estimate | None, *, sign: int, limit: float, figure: str) -> Check:
    """Judge how much worse a figure is: `sign` times the difference."""
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return Check(name=name, passed=True, measured=None, limit=limit, words=f"the {name} could not be measured")
    worse = sign * difference.value + 0.0  # a difference of 0 must not become -0
    least = difference.low if sign > 0 else -difference.high
    excluded = "excludes" if difference.low > 0 or difference.high < 0 else "does not exclude"
    return Check(
        name=name,
        passed=worse <= limit or least <= 0,
        measured=worse,
        limit=limit,
        words=f"{figure} {_change(difference.value)} against the champion and the interval {excluded} zero, "
        f"limit: a {'rise' if sign > 0 else 'drop'} of {limit:g}",
    )


def _change(difference: float) -> str:
    """Say how a figure changes, to three decimals."""
    if round(difference, 3) == 0:
        return "does not change"
    return f"{'grows' if difference > 0 else 'drops'} by {abs(difference):.3f}"
