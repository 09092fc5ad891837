"""Checks that notice accidents in a shop's export, from statistics alone: no row is read here.

Three families: `alone` needs no history, `compared` compares days and keys with the last good run, and `newest`
compares the newest days with the shop's own earlier ones. `schema` compares columns, types and units with the last good
run. Every check is a figure with bounds, a sentence that says
what is expected, and the likely cause if it is not so.
"""

from datetime import date

from recommender.datasets.checks.alone import alone
from recommender.datasets.checks.check import Check
from recommender.datasets.checks.compared import compared
from recommender.datasets.checks.log_end import Run
from recommender.datasets.checks.newest import newest
from recommender.datasets.checks.schema import GROUP, SCHEMA_HOLDS, Change, Shape, changes, in_a_table
from recommender.datasets.statistics import Statistics

__all__ = ["GROUP", "SCHEMA_HOLDS", "Change", "Check", "Run", "Shape", "all_checks", "changes", "in_a_table"]


def all_checks(
    now: Statistics, before: Statistics | None = None, runs: tuple[Run, ...] = (), *, reaches: date | None = None
) -> list[Check]:
    """Every check that these statistics allow.

    Args:
        now: the tables at hand.
        before: those of the last good run. None on a first run.
        runs: the good runs so far, the latest last.
        reaches: the last day of the files, which a stated time of decision may precede.
    """
    if not now.num_days:  # nothing is left of the log; the figures of the suites say why
        return []
    checks = [*alone(now), *newest(now)]
    if before is not None:
        checks += compared(now, before, runs, reaches=reaches)
    return checks
