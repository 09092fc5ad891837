"""The lists that serving could have given at past decisions: the candidates of a user, their features and items.

They are kept in the training set, so that an evaluation can order them with any ranker. Candidates, features and items
come from the functions that answer a request.

Shapes: L lists · M candidates of all lists · F features · I items of a campaign · T categories of all users.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recommender.datasets.periods import microseconds
from recommender.engine.context import DEFAULT_SEED
from recommender.features.histories import take_users
from recommender.matching import examples
from recommender.matching.affinity import AXES, unpack_user
from recommender.matching.candidates import candidates
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Shopper
from recommender.matching.horizon import Horizon
from recommender.matching.item_choice import ItemChooser
from recommender.matching.packed_history import Histories
from recommender.matching.rerank import Shares

FILE = "lists.safetensors"
MAX_LISTS_A_PERIOD = 800
"""Users whose lists are kept for each period, drawn with the default seed. By hand: with them an evaluation of the
default data takes 10 to 20 CPU-seconds longer, most of it the transformer's scores."""
NUM_ITEMS = 5
"""Items of a campaign, as a request has them that does not say otherwise."""
_PRODUCT = AXES.index("product")


@dataclass(frozen=True, eq=False)
class DecisionLists:
    """The candidates of L decisions, in the order in which serving takes them: the most popular campaign first."""

    users: tuple[str, ...]
    """[L]: identifiers."""
    moments_us_L: NDArray[np.int64]
    offsets: NDArray[np.int64]
    """[L + 1]: list l has the candidates offsets[l] to offsets[l + 1], excluded."""
    examples: Examples
    """The M candidates as rankers see them. The histories are those of all pairs of the training set."""
    items_MI: NDArray[np.int32]
    """The items that are shown of each candidate: rows in the catalogue, 0 where it has fewer."""
    shares: tuple[Shares, ...]
    """[L]: what the users buy."""

    @classmethod
    def none(cls, like: Examples) -> "DecisionLists":
        """No lists, with the columns of `like`."""
        no_rows = np.zeros(0, dtype=np.int64)
        part = replace(
            like,
            campaigns_N=like.campaigns_N[no_rows],
            users_N=like.users_N[no_rows],
            features_NF=like.features_NF[no_rows],
            horizon=None,
        )
        items = np.zeros((0, NUM_ITEMS), dtype=np.int32)
        return cls((), no_rows, np.zeros(1, dtype=np.int64), part, items, ())

    @property
    def sizes_L(self) -> NDArray[np.int64]:
        """How many candidates each list has."""
        return np.diff(self.offsets)

    def take(self, lists: Sequence[int] | NDArray[np.int64]) -> "DecisionLists":
        """Select lists."""
        chosen = [int(one) for one in lists]
        ranges = [np.arange(self.offsets[one], self.offsets[one + 1]) for one in chosen]
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *ranges])
        part, horizon = self.examples, self.examples.horizon
        kept, users_M = np.unique(part.users_N[rows], return_inverse=True)
        return DecisionLists(
            users=tuple(self.users[one] for one in chosen),
            moments_us_L=self.moments_us_L[chosen],
            offsets=np.cumsum([0, *map(len, ranges)]),
            examples=replace(
                part,
                campaigns_N=part.campaigns_N[rows],
                users_N=users_M.astype(np.int32),
                features_NF=part.features_NF[rows],
                histories=take_users(part.histories, kept),
                horizon=None if horizon is None else horizon.take(rows),
            ),
            items_MI=self.items_MI[rows],
            shares=tuple(self.shares[one] for one in chosen),
        )

    def last_in(self, starts: datetime, ends: datetime) -> "DecisionLists":
        """Select each user's last list in a period, users in order of their names."""
        inside = (self.moments_us_L >= microseconds(starts)) & (self.moments_us_L < microseconds(ends))
        last: dict[str, int] = {}
        for one in np.flatnonzero(inside)[np.argsort(self.moments_us_L[inside], kind="stable")].tolist():
            last[self.users[one]] = one
        return self.take([last[user] for user in sorted(last)])


def write_lists(
    shoppers: Sequence[Shopper],
    decided: Iterable[int],
    catalogue: Catalogue,
    bounds: Sequence[datetime],
    file: Path,
) -> None:
    """Write the candidates of each user's last decision in each of the periods between `bounds`.

    Args:
        shoppers: users as they were at each decision, each user and time once. Their order is that of the histories.
        decided: rows of the shoppers that have pairs.
        catalogue: items and campaigns.
        bounds: starts of the periods in order, and the end of the last one. Fewer than two: there are no lists.
        file: the file to write.
    """
    chosen = _last_decisions(shoppers, sorted(set(decided)), bounds)
    lists_M, campaigns_M, items_MI, shares = [], [], [], []
    kept: list[int] = []
    for row in chosen:
        shopper = shoppers[row]
        user = unpack_user(shopper.affinity, catalogue.numbering)
        rows_N = candidates(catalogue, shopper.feature_time_us, user=user).rows_N
        if not len(rows_N):
            continue
        incidence, columns_N = catalogue.incidence(np.sort(rows_N)), np.argsort(np.argsort(rows_N))
        chooser = ItemChooser(user, catalogue)
        for campaign, column in zip(rows_N.tolist(), columns_N.tolist(), strict=True):
            present_v = incidence.present[_PRODUCT][:, column]
            items = [item for item, _ in chooser.choose(campaign, NUM_ITEMS, present_v=present_v)]
            items_MI.append(items + [0] * (NUM_ITEMS - len(items)))
        lists_M += [len(kept)] * len(rows_N)
        campaigns_M += rows_N.tolist()
        shares.append(Shares.of(user))
        kept.append(row)
    of_lists = [shoppers[row] for row in kept]
    moments_us_L = np.array([shopper.feature_time_us for shopper in of_lists], dtype=np.int64)
    lists = np.array(lists_M, dtype=np.int32)
    built = examples.build(
        of_lists, lists, np.array(campaigns_M, dtype=np.int32), catalogue, moments_us_L[lists].astype(np.int64)
    )
    names = [shopper.user_id.encode() for shopper in of_lists]
    arrays: dict[str, NDArray[Any]] = {
        "shoppers_L": np.array(kept, dtype=np.int32),
        "names": np.frombuffer(b"".join(names), dtype=np.uint8),
        "name_lengths_L": np.array([len(name) for name in names], dtype=np.int32),
        "moments_us_L": moments_us_L,
        "sizes_L": np.bincount(lists, minlength=len(kept)).astype(np.int64),
        "campaigns_M": built.campaigns_N,
        "features_MF": built.features_NF,
        "targeted_us_M": _targeted(built),
        "items_MI": np.array(items_MI, dtype=np.int32).reshape(-1, NUM_ITEMS),
        "categories_L": np.array([len(one.values_n) for one in shares], dtype=np.int64),
        "categories_T": np.concatenate([np.zeros(0, dtype=np.int32), *(one.values_n for one in shares)]),
        "share_T": np.concatenate([np.zeros(0), *(one.share_n for one in shares)]),
    }
    save_file(arrays, file)


def read_lists(file: Path, catalogue: Catalogue, feature_names: tuple[str, ...], histories: Histories) -> DecisionLists:
    """Read what `write_lists` wrote. The histories are those of the shoppers that it was given, in their order."""
    arrays: Mapping[str, NDArray[Any]] = load_file(file)
    moments_us_L, sizes_L = arrays["moments_us_L"], arrays["sizes_L"]
    lists_M = np.repeat(np.arange(len(sizes_L)), sizes_L)
    campaigns_M = arrays["campaigns_M"]
    decided_us_M = moments_us_L[lists_M]
    text, ends = arrays["names"].tobytes(), np.cumsum([0, *arrays["name_lengths_L"].tolist()])
    categories = np.cumsum([0, *arrays["categories_L"].tolist()])
    return DecisionLists(
        users=tuple(text[start:end].decode() for start, end in pairwise(ends.tolist())),
        moments_us_L=moments_us_L,
        offsets=np.cumsum([0, *sizes_L.tolist()]),
        examples=Examples(
            catalogue=catalogue,
            campaigns_N=campaigns_M,
            users_N=arrays["shoppers_L"][lists_M],
            features_NF=arrays["features_MF"],
            feature_names=feature_names,
            histories=histories,
            horizon=Horizon.whole(arrays["targeted_us_M"], decided_us_M, catalogue.campaign_ends_C[campaigns_M]),
        ),
        items_MI=arrays["items_MI"],
        shares=tuple(
            Shares(arrays["categories_T"][start:end], arrays["share_T"][start:end])
            for start, end in pairwise(categories.tolist())
        ),
    )


def _targeted(built: Examples) -> NDArray[np.int64]:
    """When the users were targeted, for pairs that `examples.build` made. These always have a horizon."""
    return np.zeros(0, dtype=np.int64) if built.horizon is None else built.horizon.targeted_us_N


def _last_decisions(shoppers: Sequence[Shopper], decided: Sequence[int], bounds: Sequence[datetime]) -> list[int]:
    """Rows of each user's last decision in each period, of a sample of the users if there are many."""
    chosen: list[int] = []
    for start, end in pairwise(microseconds(bound) for bound in bounds):
        last: dict[str, int] = {}
        for row in decided:
            shopper = shoppers[row]
            if start <= shopper.feature_time_us < end:
                known = last.setdefault(shopper.user_id, row)
                if shopper.feature_time_us > shoppers[known].feature_time_us:
                    last[shopper.user_id] = row
        rows = [last[user] for user in sorted(last)]
        if len(rows) > MAX_LISTS_A_PERIOD:
            drawn = np.random.default_rng(DEFAULT_SEED).choice(len(rows), MAX_LISTS_A_PERIOD, replace=False)
            rows = [rows[place] for place in np.sort(drawn).tolist()]
        chosen += rows
    return chosen
