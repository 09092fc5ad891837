"""A user's past with campaigns at decisions: running sums of targetings and participations, read as of each decision.

A campaign counts as past if the user was targeted strictly before the decision. A participation counts if it was known
by then. So a participation in a targeted campaign becomes known when both lie behind. The cost follows the targetings,
the participations and the decisions: a campaign opens and closes with one change each, and nothing is joined with the
decisions of its user.

Shapes: D decisions · T targetings · P participations · O open campaigns of all decisions.
"""

from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features.as_of import Ints, Running, last_before, ranges
from recommender.features.bought import NEVER, Decisions, microseconds_of
from recommender.features.decisions import TIME
from recommender.features.source import Source

SUMMED = ("targeted", "redeemed", "coupons", "open", "open_redeemed")
NONE = -1
"""Stands for no campaign and for no time."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table about users and campaigns, sorted by user, time and campaign."""

    user: Ints
    campaign: Ints
    """Row of the campaign, in order of identifiers."""
    us: Ints
    """When, microseconds since 1970, UTC."""

    @classmethod
    def read(cls, source: Source, decisions: Decisions, table: Any, time: str) -> "Rows":
        """Read a table's rows of the decisions' users and of campaigns that the source has."""
        ids = source.campaigns["campaign_id"]
        campaigns = ibis.memtable(pa.table({"campaign_id": ids, "campaign": np.arange(len(ids))}))
        rows = table.select("user_id", "campaign_id", time).inner_join(decisions.numbered(), "user_id")
        rows = rows.inner_join(campaigns, "campaign_id").select("user", "campaign", time)
        found = rows.order_by("user", time, "campaign").to_pyarrow()
        user, campaign = (found[name].to_numpy().astype(np.int64) for name in ("user", "campaign"))
        return cls(user, campaign, microseconds_of(found[time]))


@dataclass(frozen=True, eq=False)
class Past:
    """Targetings and participations of the users of some decisions."""

    decisions: Decisions
    targets: Rows
    taken: Rows
    known_us_P: Ints
    """When a participation and the targeting of its campaign both lie behind. `NEVER`: the user was not targeted."""
    first_P: NDArray[np.bool_]
    """Whether it is the user's first participation in the campaign."""
    previous_us_P: Ints
    """The user's participation in the campaign before this one. `NONE` for the first one."""
    starts_us_C: Ints
    ends_us_C: Ints

    @classmethod
    def of(cls, source: Source, decisions: Decisions) -> "Past":
        """Read the rows of the decisions' users."""
        targets = Rows.read(source, decisions, source.table("targets"), "targeted_at")
        taken = Rows.read(source, decisions, source.participations, "participated_at")
        campaigns = source.campaigns
        num = campaigns.num_rows
        by_pair = np.lexsort((taken.us, taken.campaign, taken.user))
        key_P = (taken.user * num + taken.campaign)[by_pair]
        again = np.diff(key_P, prepend=NONE) == 0
        previous_us_P = np.full(len(key_P), NONE)
        previous_us_P[by_pair[again]] = taken.us[by_pair[np.flatnonzero(again) - 1]]
        targeted_us_P = _lookup(targets.user * num + targets.campaign, targets.us, taken.user * num + taken.campaign)
        return cls(
            decisions,
            targets,
            taken,
            known_us_P=np.maximum(taken.us, targeted_us_P),
            first_P=previous_us_P == NONE,
            previous_us_P=previous_us_P,
            starts_us_C=microseconds_of(campaigns["starts_at"]),
            ends_us_C=microseconds_of(campaigns["ends_at"]),
        )

    def changes(self) -> Running:
        """Running sums by user of `SUMMED`, and of `last`: campaigns by the time of their last participation."""
        targets, taken = self.targets, self.taken
        known = self.known_us_P != NEVER
        first, again = known & self.first_P, known & ~self.first_P
        closed_us_T = np.maximum(targets.us, self.ends_us_C[targets.campaign] - 1)
        closed_us_P = np.maximum(self.known_us_P, self.ends_us_C[taken.campaign] - 1)
        listed: list[tuple[str, int, Ints, Ints, Ints]] = [
            ("targeted", 1, targets.user, targets.us, targets.us),
            ("open", 1, targets.user, targets.us, targets.us),
            ("open", -1, targets.user, closed_us_T, closed_us_T),
            *(
                (name, sign, taken.user[rows], times[rows], events[rows])
                for name, sign, rows, times, events in (
                    ("coupons", 1, known, self.known_us_P, self.known_us_P),
                    ("redeemed", 1, first, self.known_us_P, self.known_us_P),
                    ("open_redeemed", 1, first, self.known_us_P, self.known_us_P),
                    ("open_redeemed", -1, first, closed_us_P, closed_us_P),
                    ("last", 1, known, self.known_us_P, taken.us),
                    ("last", -1, again, self.known_us_P, self.previous_us_P),
                )
            ),
        ]
        signs = {
            name: np.concatenate([np.full(len(users), sign * (one == name)) for one, sign, users, _, _ in listed])
            for name in (*SUMMED, "last")
        }
        users, times, events = (np.concatenate([change[k] for change in listed]) for k in (2, 3, 4))
        return Running(users, times, signs, event_us_n=events)

    def by_type(self, type_of_C: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Count each decision's past campaigns by type: decision, type, targeted, redeemed, in this order."""
        num_types = int(type_of_C.max(initial=0)) + 1
        targets, first = self.targets, np.flatnonzero(self.first_P & (self.known_us_P != NEVER))
        keys = np.concatenate([targets.user, self.taken.user[first]]) * num_types
        keys += type_of_C[np.concatenate([targets.campaign, self.taken.campaign[first]])]
        pairs_g, group = np.unique(keys, return_inverse=True)
        of_target = np.arange(len(keys)) < len(targets.user)
        times = np.concatenate([targets.us, self.known_us_P[first]])
        counted = {"targeted": of_target.astype(np.int64), "redeemed": (~of_target).astype(np.int64)}
        sums = Running(group, times, counted)
        user_D = self.decisions.user_D
        starts_D, ends_D = (np.searchsorted(pairs_g, (user_D + more) * num_types) for more in (0, 1))
        group_Q, bounds = ranges(starts_D, ends_D)
        decision_Q = np.repeat(np.arange(len(user_D)), np.diff(bounds))
        found = sums.at(group_Q, self.decisions.moment_us_D, decision_Q).before(("targeted", "redeemed"))
        kept = found["targeted"] > 0
        return decision_Q[kept], pairs_g[group_Q[kept]] % num_types, found["targeted"][kept], found["redeemed"][kept]

    def last(self, rows: Rows, known_us: Ints) -> "Last":
        """The latest time at each decision of rows known by then, and the latest one of another campaign."""
        order = np.lexsort((known_us, rows.user))
        order = order[known_us[order] != NEVER]
        best_n, second_n, campaign_n = (np.full(len(order) + 1, NONE) for _ in range(3))
        user, campaign, best, second = NONE, NONE, NONE, NONE
        listed = zip(rows.user[order].tolist(), rows.campaign[order].tolist(), rows.us[order].tolist(), strict=True)
        for place, (of_user, of_campaign, us) in enumerate(listed):
            if of_user != user:
                user, campaign, best, second = of_user, of_campaign, us, NONE
            elif of_campaign == campaign:
                best = max(best, us)
            elif us > best:
                campaign, best, second = of_campaign, us, best
            else:
                second = max(second, us)
            best_n[place], second_n[place], campaign_n[place] = best, second, campaign
        decisions = self.decisions
        # The place -1 of a user without a row is the last one, which stays `NONE`.
        place_D = last_before(rows.user[order], known_us[order], decisions.user_D, decisions.moment_us_D)
        return Last(best_n[place_D], campaign_n[place_D], second_n[place_D])

    def open(self) -> "Open":
        """The campaigns with an open window that each decision's user was targeted by or took up."""
        targets, taken, num = self.targets, self.taken, len(self.ends_us_C)
        moments = Running(self.decisions.user_D, self.decisions.moment_us_D, {}).entered
        first = np.flatnonzero(self.first_P)
        key_P = taken.user[first] * num + taken.campaign[first]
        key_T = targets.user * num + targets.campaign
        taken_us_T = _lookup(key_P, taken.us[first], key_T)
        users = np.concatenate([targets.user, taken.user[first]])
        campaigns = np.concatenate([targets.campaign, taken.campaign[first]])
        # A decision sees what lies strictly before it. From the targeting on, the campaign is a targeted one.
        from_us = np.concatenate([targets.us, taken.us[first]]) + 1
        until_us = self.ends_us_C[campaigns]
        targeted_us = np.minimum(_lookup(key_T, targets.us, key_P), NEVER - 1)
        until_us[len(targets.user) :] = np.minimum(until_us[len(targets.user) :], targeted_us + 1)
        starts = moments.places(users, from_us, None)
        decision_O, bounds = ranges(starts, np.maximum(moments.places(users, until_us, None), starts))
        row_O = np.repeat(np.arange(len(users)), np.diff(bounds))
        order = np.lexsort((campaigns[row_O], decision_O))
        decision_O, row_O = decision_O[order], row_O[order]
        campaign_O, counted_O = campaigns[row_O], row_O < len(targets.user)
        taken_us = np.concatenate([taken_us_T, taken.us[first]])
        since_us = np.concatenate([targets.us, self.starts_us_C[taken.campaign[first]]])
        redeemed_O = taken_us[row_O] < self.decisions.moment_us_D[decision_O]
        return Open(decision_O, campaign_O, since_us[row_O], counted_O.astype(np.int64), redeemed_O.astype(np.int64))

    def taken_by_pair(self, opened: "Open") -> tuple[Ints, Ints]:
        """Of each open campaign: the number of the user's participations before the decision, and the last one."""
        num, taken = len(self.ends_us_C), self.taken
        order = np.lexsort((taken.us, taken.campaign, taken.user))
        pairs_g, group = np.unique((taken.user * num + taken.campaign)[order], return_inverse=True)
        key_O = self.decisions.user_D[opened.decision_O] * num + opened.campaign_O
        group_O = np.searchsorted(pairs_g, key_O)
        unknown_O = np.append(pairs_g, NONE)[group_O] != key_O
        group_O[unknown_O] = len(pairs_g)
        moment_us_O = self.decisions.moment_us_D[opened.decision_O]
        place_O = last_before(group, taken.us[order], group_O, moment_us_O)
        starts = np.searchsorted(group, np.arange(len(pairs_g) + 1))
        count_O = np.where(place_O >= 0, place_O + 1 - starts[group_O], 0)
        return count_O, np.append(taken.us[order], NONE)[place_O]


@dataclass(frozen=True, eq=False)
class Last:
    """`NONE` where there is nothing."""

    us_D: Ints
    campaign_D: Ints
    others_us_D: Ints
    """Of all campaigns but `campaign_D`."""

    def without(self, opened: "Open") -> Ints:
        """The latest time without each open campaign."""
        rows_O = opened.decision_O
        return np.where(self.campaign_D[rows_O] == opened.campaign_O, self.others_us_D[rows_O], self.us_D[rows_O])


@dataclass(frozen=True, eq=False)
class Open:
    """Campaigns with an open window that a decision's user was targeted by or took up, by decision and campaign."""

    decision_O: Ints
    campaign_O: Ints
    since_us_O: Ints
    """When the user was targeted. The window's start for a user who was not targeted."""
    counted_O: Ints
    """1 if it is one of the user's past campaigns."""
    redeemed_O: Ints

    def table(self, campaign_ids: pa.ChunkedArray) -> pa.Table:
        """Columns `decision`, `campaign_id`, `targeted_at`, `counted` and `redeemed`."""
        return pa.table(
            {
                "decision": self.decision_O,
                "campaign_id": campaign_ids.take(pa.array(self.campaign_O)),
                "targeted_at": pa.array(self.since_us_O).cast(pa.timestamp("us")).cast(TIME),
                "counted": self.counted_O,
                "redeemed": self.redeemed_O,
            }
        )


def _lookup(keys: Ints, values: Ints, wanted: Ints) -> Ints:
    """The value of each wanted key, `NEVER` for one that `keys` lack."""
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], wanted)
    found = np.append(keys[order], NONE)[place] == wanted
    return np.where(found, np.append(values[order], NEVER)[place], NEVER)
