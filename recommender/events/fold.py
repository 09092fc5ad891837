"""The fold: a user's packed row and the events after it become the row that a materialisation would write now.

What it brings up to date is listed in docs/events.md. The rest waits for the next materialisation.

Shapes: A axes of the taxonomy · n values of an axis · B baskets · T basket lines · M measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import MONTH_DAYS
from recommender.events.counters import portrait_at
from recommender.events.ledger import Ledger, Line
from recommender.events.look_fold import new_looks, with_looks
from recommender.events.returned import taken_back
from recommender.events.tail import TAKING, Readings, Recent, hidden, lines_of
from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.open_campaigns import HIDDEN, TAKEN_UP, OpenCampaigns, campaign_code
from recommender.matching.packed_history import (
    PackedBaskets,
    pack_history,
    unpack_history,
    unpack_looks,
    unpack_rings,
    without_looks,
)
from recommender.matching.packed_user import PackedUser, pack, unpack

_MOST_COUNTED = np.iinfo(np.uint16).max
"""Counts above it are cut, as a materialisation cuts them."""
TENURE = "behaviour__tenure_days"
"""Feature from which the length of the known history follows."""


@dataclass(frozen=True)
class Fold:
    """Folds tails into rows of one catalogue.

    Attributes:
        catalogue: items and campaigns that the rows refer to.
        readings: which events the rows have read.
    """

    catalogue: Catalogue
    readings: Readings

    @property
    def minor_units(self) -> int:
        """Whole minor units in one unit of the shop's currency, such as 100."""
        return self.catalogue.minor_units

    def folded(self, user_id: str, packed: PackedUser, names: tuple[str, ...], at_us: int) -> bytes:
        """The packed row as it is at a moment (microseconds since 1970, UTC), also where no event came.

        Events later than the moment are left for later. One of the very moment counts.

        Raises:
            FeatureStoreError: the row or its tail is damaged, or refers to another taxonomy than the catalogue's.
        """
        known = [event for _, event in lines_of(packed.tail) if event.time_us <= at_us]
        new = [event for event in known if not self.readings.has_read(packed.feature_time_us, event)]
        out, moment_us = hidden(known), max(at_us, packed.feature_time_us)
        is_moved = bool(new) or moment_us > packed.feature_time_us
        if not is_moved and not out:
            return packed.content
        shopper = unpack(user_id, packed.content, {packed.layout: names})
        numbering = self.catalogue.numbering
        user = unpack_user(shopper.affinity, numbering)
        user = replace(user, open=self._open(user.open, new, out, at_us, shopper.portrait_P))
        name = self.catalogue.taxonomy_version
        if is_moved:
            history = unpack_history(shopper.history, numbering)
            rings, lines = unpack_rings(shopper.history, history), self._lines(new, user, moment_us)
            ledger = Ledger.of(history, rings, packed.feature_time_us, self.minor_units)
            ledger = ledger.with_lines(lines, self.minor_units)
            portrait_P = portrait_at(
                shopper.portrait_P,
                names,
                ledger,
                rings,
                new,
                feature_time_us=packed.feature_time_us,
                at_us=moment_us,
                minor_units=self.minor_units,
            )
            user = _at(_with_lines(user, lines, self.catalogue), ledger, self.catalogue, moment_us)
            added_R = new_looks(new, names, self.catalogue)
            user, portrait_P = with_looks(user, portrait_P, names, added_R, self.catalogue, moment_us)
            if TENURE in names:
                user = replace(user, months=float(np.nan_to_num(portrait_P[names.index(TENURE)])) / MONTH_DAYS)
            bought = pack_history(*ledger.history(), name) if lines else without_looks(shopper.history, history)
            looked = self._looked(shopper.history, history, added_R)
            shopper = replace(shopper, portrait_P=portrait_P, history=bought + looked)
        return pack(replace(shopper, affinity=pack_user(user, name)))

    def _looked(self, packed: bytes, history: PackedBaskets, added_R: NDArray[np.void] | None) -> bytes:
        """The packed baskets of looks of a packed history, which is unpacked already, with further looks."""
        looks = unpack_looks(packed, history)
        if added_R is not None and self.catalogue.look_rules is not None:
            looks = looks.with_looks(added_R, self.catalogue.look_rules)
        return looks.pack()

    def _lines(self, events: Sequence[Recent], user: UserAffinity, at_us: int) -> list[Line]:
        rows, lines = self.catalogue.item_rows, []
        back = taken_back(events, lambda item: item in rows and rows[item] in user.values[0], at_us)
        for place, event in enumerate(events):
            share = back[place].share if place in back else 0.0
            if event.kind == "purchase" and event.item_id is not None and event.item_id in rows and share < 1.0:
                line = Line(
                    item_row=rows[event.item_id],
                    time_us=event.time_us,
                    # What was bought at one moment is one basket where no basket is named, as in a materialisation.
                    basket=event.basket_id or str(event.time_us),
                    cents=self._cents(event.amount, share),
                    discount_cents=self._cents(event.discount, share),
                    coupon_cents=self._cents(event.coupon_discount, share),
                )
                lines.append(line)
        return lines

    def _cents(self, amount: float | None, returned_share: float) -> int:
        cents = np.floor((amount or 0.0) * self.minor_units + 0.5)
        return int(np.floor(cents * (1.0 - returned_share) + 0.5))

    def _open(
        self, own: OpenCampaigns, new: Sequence[Recent], out: set[str], at_us: int, portrait_P: NDArray[np.float32]
    ) -> OpenCampaigns:
        """The user's open campaigns, with those that were taken up or hidden since."""
        marks: dict[str, int] = dict.fromkeys(out, HIDDEN)
        for event in new:
            if event.kind == TAKING and event.campaign_id is not None:
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
        "discounted": np.array([line.discount_cents > 0 for line in lines]),
        "coupon": np.array([line.coupon_cents > 0 for line in lines]),
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


def _at(user: UserAffinity, ledger: Ledger, catalogue: Catalogue, at_us: int) -> UserAffinity:
    """The counts of lines within windows as they are at a moment, where the row knows all lines of a window."""
    age_T = ledger.age_days_B(at_us)[ledger.basket_T]
    known_T = (age_T <= 90) & (ledger.item_T > 0)
    age_T, coupon_T = age_T[known_T], ledger.coupon_T[known_T]
    axes_TA = catalogue.item_axes_VA[ledger.item_T[known_T]]
    counted_T = {}
    if ledger.has_items(90, at_us):
        counted_T["lines_90"] = np.ones(len(age_T), dtype=np.bool_)
        if ledger.has_marks:
            counted_T["coupon_90"] = coupon_T
    if ledger.has_items(30, at_us):
        counted_T["lines_30"] = age_T <= 30
    counts = [counts_Mn.copy() for counts_Mn in user.counts]
    for axis, values_n in enumerate(user.values):
        place_T = np.searchsorted(values_n, axes_TA[:, axis])
        # An item may have got a value since, under which nothing was counted.
        is_value_T = np.append(values_n, -1)[place_T] == axes_TA[:, axis]
        for measure, flag_T in counted_T.items():
            of_value = np.bincount(place_T[flag_T & is_value_T], minlength=len(values_n))
            counts[axis][MEASURES.index(measure)] = np.minimum(of_value, _MOST_COUNTED)
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
