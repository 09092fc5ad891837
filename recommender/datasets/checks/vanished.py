"""Checks that nothing vanished since the last good run: kinds, keys, values of categories, units."""

from collections.abc import Iterator

import numpy as np

from recommender.datasets.checks.check import Check, check_at, factor_in_words, unit_cause
from recommender.datasets.statistics import Statistics

KEYS_KEPT = {"users": 0.9, "items": 0.8, "campaigns": 0.8, "users with events": 0.9, "items with events": 0.8}
"""Share of the earlier run's keys that must still be there. Users are erased and items delisted, but not a tenth of
them between two runs. Chosen by hand."""
REENCODED = 0.2
"""Share of the keys still there below which all were written anew. A loss of data rarely takes four in five."""
VALUES_KEPT = 0.6
"""Share of rows whose category was known before. A shop adds a category, but not two fifths between two runs."""
MOVED = 0.35
"""Total variation between the shares of values in two runs. A season moves shares by less than a third."""
ENOUGH_ROWS = 20
"""Rows from which a kind of event that is gone counts as lost. Fewer come and go by chance."""
EXAMPLES = 3
"""Values that a message shows."""
NULL_CHANGE = 0.3
"""Change of a share of missing values that counts. Chosen by hand."""
LEVEL_CHANGE = 3.0
"""Factor of a level that counts. Chosen by hand."""
NOT_DAILY = ("users", "items", "campaigns", "campaign_items", "targets", "participations")


def vanished(now: Statistics, before: Statistics) -> Iterator[Check]:
    """All checks of what was there before."""
    yield from _kinds(now, before)
    yield from _keys(now, before)
    yield from _values(now, before)
    for name, earlier in before.columns.items():
        if name.split(".")[0] in NOT_DAILY and name in now.columns:
            yield from _column(name, now.columns[name], earlier)


def _kinds(now: Statistics, before: Statistics) -> Iterator[Check]:
    """Kinds of events that the earlier run had. Its columns are compared in `schema`."""
    kinds = {
        name for name, rows_D in before.days.items() if name.startswith("kind:") and np.nansum(rows_D) >= ENOUGH_ROWS
    }
    have = {name for name, rows_D in now.days.items() if name.startswith("kind:") and np.nansum(rows_D) > 0}
    lost = sorted(name.removeprefix("kind:") for name in kinds - have)
    yield check_at(
        "events.kinds_vanished",
        at="events.kind",
        value=len(lost),
        most=0.0,
        sentence="every kind of event of the last good run is still there",
        cause=f"no event of the kind {', '.join(lost)} any more: renamed in the export, or no longer mapped?"
        if lost
        else "",
    )


def overlap(now: tuple[int, ...], before: tuple[int, ...]) -> float:
    """Share of the earlier keys that are still there, from two sketches of smallest hashes.

    Below the smaller of both largest hashes, both sketches are complete.
    """
    if not before or not now:
        return 1.0 if not before else 0.0
    bound = min(now[-1], before[-1])
    # A sketch that is not full is complete everywhere.
    bound = before[-1] if len(now) < len(before) and now[-1] < before[-1] else bound
    earlier = [hash_ for hash_ in before if hash_ <= bound]
    return len(set(now) & set(earlier)) / max(1, len(earlier))


def _keys(now: Statistics, before: Statistics) -> Iterator[Check]:
    for name, least in KEYS_KEPT.items():
        if name not in before.keys or not before.keys[name]:
            continue
        kept = overlap(now.keys.get(name, ()), before.keys[name])
        one = name.split()[0].removesuffix("s")
        if kept < REENCODED:
            why = f"{one} ids re-encoded (another format, or hashed anew)?"
        else:
            why = f"a part of the {name} missing from the export, or their ids re-encoded in one file?"
        yield check_at(
            f"keys.{name.replace(' ', '_')}",
            at=f"{'events' if 'events' in name else name}.{one}_id",
            value=kept,
            least=least,
            sentence=f"the {name} of the last good run are still there",
            cause=f"only {kept:.0%} of the {name} of the last good run are still there: {why}",
        )


def _values(now: Statistics, before: Statistics) -> Iterator[Check]:
    for name, earlier in before.values.items():
        shares = now.values.get(name)
        if not shares:
            continue
        column = name.split(".")[1]
        known = sum(share for value, share in shares.items() if value in earlier) / sum(shares.values())
        new = [value for value in shares if value not in earlier][:EXAMPLES]
        gone = [value for value in earlier if value not in shares][:EXAMPLES]
        yield check_at(
            f"{name}.values",
            value=known,
            least=VALUES_KEPT,
            sentence=f"most rows have a {column} that the last good run had",
            cause=f"{column} has other values than before ({', '.join(gone)} -> {', '.join(new)}): renamed or encoded?",
        )
        moved = sum(abs(shares.get(value, 0) - earlier.get(value, 0)) for value in {*shares, *earlier}) / 2
        (common, share), *_ = shares.items()
        yield check_at(
            f"{name}.shares",
            severity="warning",
            value=moved,
            most=MOVED,
            sentence=f"the shares of the values of {column} are about those of the last good run",
            cause=f"the shares of {column} moved: now {share:.0%} are {common!r}, before {earlier.get(common, 0):.0%}. "
            "A default value, or another mapping?",
        )


def _column(name: str, now: dict[str, float] | object, before: dict[str, float] | object) -> Iterator[Check]:
    assert isinstance(now, dict)
    assert isinstance(before, dict)
    column = name.split(".")[1]
    rose = now.get("null_share", 0.0) - before.get("null_share", 0.0)
    yield check_at(
        f"{name}.past_null",
        value=rose,
        most=NULL_CHANGE,
        sentence=f"{column} is about as often missing as in the last good run",
        cause=f"{column} is missing in {now.get('null_share', 0):.0%} of the rows, before in "
        f"{before.get('null_share', 0):.0%}: no longer exported?",
    )
    if before.get("p50", 0) > 0 and now.get("p50", 0) > 0:
        factor = now["p50"] / before["p50"]
        yield check_at(
            f"{name}.past_level",
            value=factor,
            least=1 / LEVEL_CHANGE,
            most=LEVEL_CHANGE,
            sentence=f"the median {column} is about that of the last good run",
            cause=f"{column} is about {factor_in_words(factor)} times what it was: {unit_cause(factor, column)}",
        )
