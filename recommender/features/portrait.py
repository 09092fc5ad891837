"""The portrait of users at moments: base, behaviour, interest, social and consumption features.

Shapes: D decisions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.periods import microseconds
from recommender.datasets.time_units import MONTH_DAYS
from recommender.features import campaign_habits, looks, people, purchases, rings, vectors
from recommender.features.as_of import Running
from recommender.features.baskets import Versions, versions
from recommender.features.bought import Decisions, Part, bought, lines_of, parts
from recommender.features.look_days import LookDays
from recommender.features.packing import Packer
from recommender.features.shared import Shared
from recommender.features.source import Source
from recommender.matching.packed_user import PORTRAIT_KINDS

SLICE_PAIRS = 500_000
"""Pairs of a decision and an item that are in memory at once, if no decision has more. By hand: some 150 MB."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """The features of each decision's user as known then, and what they were computed from."""

    columns: Mapping[str, NDArray[np.float32]]
    """Name -> float32 [D], in the order of `PORTRAIT_KINDS`."""
    habits: tuple[str, ...]
    """Names of those about campaigns."""


def portrait(
    source: Source,
    decided: pa.Table,
    shared: Shared,
    *,
    packer: Packer | None = None,
) -> Portrait:
    """Compute the portrait of each decision's user from what was known strictly before the decision.

    Args:
        source: the tables, at least with all rows of these users.
        decided: decision (numbered from 0), user_id and decided_at, as `decisions.decisions` lists them.
        shared: what all users have in common.
        packer: packs the vectors of the same decisions.
    """
    numbered = Decisions.of(decided)
    habits = campaign_habits.habits(source, numbered, shared.types)
    columns = {**_base(source, decided, numbered.moment_us_D, shared), **habits.columns}
    activity = rings.Activity(microseconds(source.as_of))
    columns |= people.activity(source, numbered, shared.kinds, activity)
    looked_by_axis = looks.looks_by_axis(source, decided, shared.look_weights) if shared.looked else None
    columns |= looks.portrait_column(looked_by_axis, decided.num_rows)
    own = _Purchases.of(source, numbered, shared.departments)

    def ordered(of_purchases: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        behaviour = {name: column for name, column in of_purchases.items() if name.startswith("behaviour__")}
        together = {**behaviour, **columns, **of_purchases}
        return {name: together[name] for kind in PORTRAIT_KINDS for name in together if name.startswith(f"{kind}__")}

    # The packed vectors say where the features about campaigns stand, so the order of all must be known before.
    names = list(ordered(own.nothing()))
    if packer is not None:
        columns_H = np.array([names.index(name) for name in habits.columns], dtype=np.uint16)
        look_days = LookDays.of(source, numbered, shared.look_weights) if shared.looked else None
        packer.begin(habits, columns_H, looked_by_axis, activity, look_days)
    found = ordered(own.columns(packer))
    return Portrait(
        columns={name: column.astype(np.float32, copy=False) for name, column in found.items()},
        habits=tuple(habits.columns),
    )


@dataclass(frozen=True, eq=False)
class _Purchases:
    """Features of purchases, computed for a part of the users at a time."""

    source: Source
    decisions: Decisions
    departments: Mapping[str, int]
    rows: ir.Table | pa.Table
    axes_VA: NDArray[np.int32]

    @classmethod
    def of(cls, source: Source, decisions: Decisions, departments: Mapping[str, int]) -> "_Purchases":
        return cls(source, decisions, departments, lines_of(source, decisions), source.taxonomy.axes_VA)

    def columns(self, packer: Packer | None) -> dict[str, NDArray[np.float32]]:
        """Name -> float32 [D]. Gives all decisions to `packer`, if there is one."""
        columns: dict[str, NDArray[np.float32]] = {}
        decisions = self.decisions
        for part in parts(self.rows, len(decisions.user_ids)):
            lines = bought(part)
            all_baskets, items = versions(lines), vectors.items(lines, self.axes_VA)
            sums = purchases.running(all_baskets)
            of_part = decisions.of_users(part.first_user, part.end_user)
            for own in _slices(of_part, decisions.user_D - part.first_user, items):
                user_D, moment_us_D = decisions.user_D[own] - part.first_user, decisions.moment_us_D[own]
                seen = purchases.known(all_baskets, user_D, moment_us_D)
                by_axis = vectors.purchases_by_axis(items, user_D, moment_us_D)
                found = self._features(by_axis, all_baskets, sums, seen, user_D, moment_us_D)
                for name, values_D in found.items():
                    columns.setdefault(name, np.full(len(decisions.user_D), np.nan, dtype=np.float32))[own] = values_D
                if packer is not None:
                    tenure_D = columns["behaviour__tenure_days"][own].astype(np.float64)
                    months_D = np.nan_to_num(tenure_D / MONTH_DAYS)
                    packer(own, by_axis, months_D, lines, all_baskets, seen, moment_us_D)
        return columns

    def nothing(self) -> dict[str, NDArray[Any]]:
        """The features of no decision, which have the same names in the same order."""
        rows = self.rows.slice(0, 0) if isinstance(self.rows, pa.Table) else self.rows.limit(0).to_pyarrow()
        lines = bought(Part(0, 0, rows))
        none = np.zeros(0, dtype=np.int64)
        all_baskets = versions(lines)
        seen = purchases.known(all_baskets, none, none)
        by_axis = vectors.purchases_by_axis(vectors.items(lines, self.axes_VA), none, none)
        return self._features(by_axis, all_baskets, purchases.running(all_baskets), seen, none, none)

    def _features(
        self,
        by_axis: list[pa.Table],
        baskets: Versions,
        sums: Running,
        seen: purchases.Known,
        user_D: NDArray[np.int64],
        moment_us_D: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        tables = self.source.tables
        found: dict[str, NDArray[Any]] = {
            **vectors.interest(by_axis, self.source.taxonomy, len(user_D), self.departments)
        }
        return found | purchases.features(
            baskets,
            sums,
            seen,
            user_D,
            moment_us_D,
            has_hours=tables.event_time_has_hours,
            has_discount=tables.has("events", "discount"),
            has_coupon=tables.has("events", "coupon_discount"),
            minor_units=self.source.minor_units,
        )


def _slices(of_part: slice, user_D: NDArray[np.int64], items: vectors.Items) -> Iterator[slice]:
    """Cut a part's decisions so that few pairs of a decision and an item are in memory."""
    users = user_D[of_part]
    if not len(users):
        return
    pairs_U = np.bincount(items.user_g, minlength=int(users[-1]) + 1)
    ends_D = np.cumsum(pairs_U[users] + 1)
    first = 0
    while first < len(users):
        before = int(ends_D[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(ends_D, before + SLICE_PAIRS, side="right")))
        yield slice(of_part.start + first, of_part.start + end)
        first = end


def _base(
    source: Source, decided: pa.Table, decided_us_D: NDArray[np.int64], shared: Shared
) -> dict[str, NDArray[Any]]:
    users = source.table("users").to_pyarrow().sort_by("user_id")
    row_of = {user_id: row for row, user_id in enumerate(users["user_id"].to_pylist())}
    rows_D = np.array([row_of[user_id] for user_id in decided["user_id"].to_pylist()], dtype=np.int64)
    return people.base(users, decided_us_D, rows_D, shared.attributes)
