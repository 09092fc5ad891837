"""The fold: a user's packed row and the events after it become the row that a materialisation would write now.

What it brings up to date is listed in docs/events.md. The rest waits for the next materialisation.

Shapes: A axes of the taxonomy · n values of an axis · B baskets · T basket lines · M measures.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import MONTH_DAYS
from recommender.events.counters import ages_days, covers, portrait_at
from recommender.events.look_fold import with_looks
from recommender.events.tail import Readings, Recent, hidden, lines_of
from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import PackedBaskets, pack_history, unpack_history
from recommender.matching.open_campaigns import HIDDEN, TAKEN_UP, OpenCampaigns, campaign_code
from recommender.matching.packed_user import PackedUser, pack, unpack

_MOST_COUNTED = np.iinfo(np.uint16).max
"""Counts above it are cut, as a materialisation cuts them."""
TENURE = "behaviour__tenure_days"
"""Feature from which the length of the known history follows."""


@dataclass(frozen=True)
class Line:
    """One purchase line of the tail, as features count it."""

    item_row: int
    time_us: int
    basket: str
    cents: int
    discounted: bool
    coupon: bool


@dataclass(frozen=True)
class Fold:
    """Folds tails into rows of one catalogue.

    Attributes:
        catalogue: items and campaigns that the rows refer to.
        readings: which events the rows have read.
        minor_units: whole minor units in one unit of the shop's currency, such as 100.
    """

    catalogue: Catalogue
    readings: Readings
    minor_units: int = 100

    def folded(self, user_id: str, packed: PackedUser, names: tuple[str, ...], at_us: int) -> bytes:
        """The packed row as it is at a moment (microseconds since 1970, UTC).

        Events later than the moment are left for later. One of the very moment counts.

        Raises:
            FeatureStoreError: the row or its tail is damaged, or refers to another taxonomy than the catalogue's.
        """
        known = [event for _, event in lines_of(packed.tail) if event.time_us <= at_us]
        new = [event for event in known if not self.readings.has_read(packed.feature_time_us, event)]
        out = hidden(known)
        if not new and not out:
            return packed.content
        shopper = unpack(user_id, packed.content, {packed.layout: names})
        numbering = self.catalogue.numbering
        user, history = unpack_user(shopper.affinity, numbering), unpack_history(shopper.history, numbering)
        user = replace(user, open=self._open(user.open, new, out, at_us, shopper.portrait_P))
        if new:
            lines = self._lines(new)
            history = self._merged(history, lines)
            moments = {"feature_time_us": packed.feature_time_us, "at_us": at_us}
            portrait_P = portrait_at(shopper.portrait_P, names, history, new, minor_units=self.minor_units, **moments)
            user = _at(_with_lines(user, lines, self.catalogue), history, self.catalogue, at_us)
            user, portrait_P = with_looks(user, portrait_P, names, new, self.catalogue, at_us)
            if TENURE in names:
                user = replace(user, months=float(np.nan_to_num(portrait_P[names.index(TENURE)])) / MONTH_DAYS)
            shopper = replace(shopper, portrait_P=portrait_P)
        name = self.catalogue.taxonomy_version
        return pack(replace(shopper, affinity=pack_user(user, name), history=pack_history(*history, name)))

    def _lines(self, events: Sequence[Recent]) -> list[Line]:
        rows = self.catalogue.item_rows
        return [
            Line(
                item_row=rows[event.item_id],
                time_us=event.time_us,
                # What was bought at one moment is one basket where no basket is named, as in a materialisation.
                basket=event.basket_id or str(event.time_us),
                cents=self._cents(event.amount),
                discounted=self._cents(event.discount) > 0,
                coupon=self._cents(event.coupon_discount) > 0,
            )
            for event in events
            if event.kind == "purchase" and event.item_id is not None and event.item_id in rows
        ]

    def _cents(self, amount: float | None) -> int:
        return int(np.floor((amount or 0.0) * self.minor_units + 0.5))

    def _merged(self, before: PackedBaskets, lines: Sequence[Line]) -> PackedBaskets:
        """The baskets of a history and of the tail, oldest first."""
        if not lines:
            return before
        by_basket: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            by_basket[line.basket].append(line)
        new = sorted((max(line.time_us for line in of), basket, of) for basket, of in by_basket.items())
        times_us_B = np.concatenate([before.times_us_B, np.array([time_us for time_us, _, _ in new], dtype=np.int64)])
        spend = [sum(line.cents for line in of) / self.minor_units for _, _, of in new]
        spend_B = np.concatenate([before.spend_B, np.array(spend, dtype=np.float32)])
        lines_B = np.concatenate([before.lines_B, np.array([len(of) for _, _, of in new], dtype=np.int32)])
        bought = [item for _, _, of in new for item in sorted(line.item_row for line in of)]
        items_T = np.concatenate([before.items_T, np.array(bought, dtype=np.int32)])
        # A late event belongs between the baskets that the row has.
        order_B = np.argsort(times_us_B, kind="stable")
        starts_B = np.concatenate([[0], np.cumsum(lines_B)[:-1]]) if len(lines_B) else lines_B
        items_T = np.concatenate([items_T[starts_B[b] : starts_B[b] + lines_B[b]] for b in order_B])
        return PackedBaskets(times_us_B[order_B], spend_B[order_B], lines_B[order_B], items_T)

    def _open(
        self, own: OpenCampaigns, new: Sequence[Recent], out: set[str], at_us: int, portrait_P: NDArray[np.float32]
    ) -> OpenCampaigns:
        """The user's open campaigns, with those that were taken up or hidden since."""
        marks: dict[str, int] = dict.fromkeys(out, HIDDEN)
        for event in new:
            if event.kind == "participation" and event.campaign_id is not None:
                marks[event.campaign_id] = marks.get(event.campaign_id, 0) | TAKEN_UP
        for campaign_id, mark in sorted(marks.items()):
            row = self.catalogue.campaign_rows.get(campaign_id)
            if row is not None and self.catalogue.campaign_ends_C[row] > at_us:
                starts_us = int(self.catalogue.campaign_starts_C[row])
                own = _marked(own, campaign_code(campaign_id), mark, starts_us, portrait_P)
        return own


def _marked(own: OpenCampaigns, code: int, mark: int, starts_us: int, portrait_P: NDArray[np.float32]) -> OpenCampaigns:
    """The open campaigns with a mark on one of them. One that is not among them is added, as not targeted."""
    place = own.place(code)
    if place is not None:
        redeemed_O = own.redeemed_O.copy()
        redeemed_O[place] |= mark
        return replace(own, redeemed_O=redeemed_O)
    return replace(
        own,
        codes_O=np.append(own.codes_O, np.uint32(code)),
        targeted_us_O=np.append(own.targeted_us_O, np.int64(starts_us)),
        counted_O=np.append(own.counted_O, np.uint16(0)),
        redeemed_O=np.append(own.redeemed_O, np.uint16(mark)),
        habits_OH=np.concatenate([own.habits_OH, portrait_P[None, own.columns_H]]),
    )


def _with_lines(user: UserAffinity, lines: Sequence[Line], catalogue: Catalogue) -> UserAffinity:
    """What the user bought on every axis, with the lines of the tail."""
    if not lines:
        return user
    rows_T = np.array([line.item_row for line in lines])
    flags = {
        "lines": np.ones(len(lines)),
        "discounted": np.array([line.discounted for line in lines]),
        "coupon": np.array([line.coupon for line in lines]),
    }
    measured_MT = np.stack([flags[name.partition("_")[0]] for name in MEASURES]).astype(np.int64)
    cents_T = np.array([line.cents for line in lines], dtype=np.int64)
    values, counts, cents = [], [], []
    for axis in range(len(AXES)):
        value_T = catalogue.item_axes_VA[rows_T, axis]
        kept_T = value_T > 0
        of_axis = _added(
            *(user.values[axis], user.counts[axis], user.cents[axis]),
            *(value_T[kept_T], measured_MT[:, kept_T], cents_T[kept_T]),
        )
        values.append(of_axis[0])
        counts.append(of_axis[1])
        cents.append(of_axis[2])
    return replace(user, values=tuple(values), counts=tuple(counts), cents=tuple(cents))


def _at(user: UserAffinity, history: PackedBaskets, catalogue: Catalogue, at_us: int) -> UserAffinity:
    """The counts of lines within windows as they are at a moment, where the history holds all of a window."""
    age_B = ages_days(history.times_us_B, at_us)
    counts = [counts_Mn.copy() for counts_Mn in user.counts]
    for measure, days in (("lines_90", 90), ("lines_30", 30)):
        if not covers(history, days, at_us):
            continue
        items_T = history.items_T[np.repeat(age_B <= days, history.lines_B)]
        axes_TA = catalogue.item_axes_VA[items_T[items_T > 0]]
        for axis, values_n in enumerate(user.values):
            of_value = np.bincount(axes_TA[:, axis], minlength=int(values_n[-1]) + 1 if len(values_n) else 1)
            counts[axis][MEASURES.index(measure)] = np.minimum(of_value[values_n], _MOST_COUNTED)
    return replace(user, counts=tuple(counts))


def _added(
    values_n: NDArray[np.int32],
    counts_Mn: NDArray[np.uint16],
    cents_n: NDArray[np.integer],
    value_T: NDArray[np.int32],
    measured_MT: NDArray[np.int64],
    cents_T: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.int64]]:
    """One axis with further lines: its values ascending, and the sums of each."""
    all_values, place_n = np.unique(np.concatenate([values_n, value_T]), return_inverse=True)
    counts = np.zeros((len(measured_MT), len(all_values)), dtype=np.int64)
    cents = np.zeros(len(all_values), dtype=np.int64)
    counts[:, place_n[: len(values_n)]] = counts_Mn
    cents[place_n[: len(values_n)]] = cents_n
    for line, place in enumerate(place_n[len(values_n) :].tolist()):
        counts[:, place] += measured_MT[:, line]
        cents[place] += cents_T[line]
    return all_values.astype(np.int32), np.minimum(counts, _MOST_COUNTED).astype(np.uint16), cents
