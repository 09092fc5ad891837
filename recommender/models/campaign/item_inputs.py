"""Inputs of a `next_item_adapter`'s regression: pooled scores of a campaign's items, and facts about user and campaign.

Shapes: N pairs · U users · V items, rows 1 … V · C campaigns · K campaign types · J inputs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples
from recommender.matching.packed_history import Histories
from recommender.models.campaign.item_pooling import SMALLEST, pool, weights_and_strengths
from recommender.models.campaign.item_vocabulary import ItemVocabulary
from recommender.models.campaign.popularity import TypeRates
from recommender.models.next_item import ItemRanker
from recommender.sequences import Sequences

POOLED = ("mass", "best", "strongest_ten")
"""Values that `pool` returns for a pair."""
CELLS_AT_ONCE = 4_000_000
"""Scores [users, items] that are held at once. With the arrays made of them they take a few hundred MB. Chosen by
hand."""


class ItemInputs:
    """Computes the inputs of pairs with a fitted item ranker. The last catalogue's layout is kept between calls."""

    def __init__(self, items: ItemRanker[Any], vocabulary: ItemVocabulary, *, most_events: int) -> None:
        self.items, self.vocabulary, self._most_events = items, vocabulary, most_events
        self._version = ""
        self._rows_R = np.zeros(0, dtype=np.int32)
        self._campaigns: dict[int, NDArray[np.int64]] = {}

    def pooled(self, examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pool the item ranker's scores over each pair's campaign.

        Returns:
            `POOLED` of each pair, float32 [N, 3], NaN where the campaign has no known item; and the mean weights of all
            users, float32 [V + 1].
        """
        sequences = self.sequences(examples.histories, examples.catalogue)
        rows, columns_N = np.unique(examples.campaigns_N, return_inverse=True)
        contents = [self._content(examples.catalogue, row) for row in rows.tolist()]
        pooled_NX = np.full((len(examples.users_N), len(POOLED)), np.nan, dtype=np.float32)
        total_V = np.zeros(self.vocabulary.items.num + 1)
        chunk = max(1, CELLS_AT_ONCE // len(total_V))
        order_N = np.argsort(examples.users_N, kind="stable")
        for start in range(0, sequences.num_users, chunk):
            users = np.arange(start, min(start + chunk, sequences.num_users))
            low, high = np.searchsorted(examples.users_N[order_N], [users[0], users[-1] + 1])
            weights_UV, strengths_UV = weights_and_strengths(
                self.items.score(sequences.take(users)), self.items.scores_are_log_odds
            )
            total_V += weights_UV.sum(axis=0, dtype=np.float64)
            pairs = order_N[low:high]
            for column, content in enumerate(contents):
                mine = pairs[columns_N[pairs] == column]
                if len(mine) and len(content):
                    at = examples.users_N[mine] - start
                    pooled_NX[mine] = pool(weights_UV[at][:, content], strengths_UV[at][:, content])
        return pooled_NX, (total_V / max(sequences.num_users, 1)).astype(np.float32)

    def inputs(
        self, examples: Examples, pooled_NX: NDArray[np.float32], base_V: NDArray[np.float32], rates: TypeRates
    ) -> NDArray[np.float32]:
        """Put the inputs of each pair together, float32 [N, J]. `base_V`: mean weights of the training's users.

        They are the pooled scores, the mass over the average user's mass, the average user's mass, the log-odds of the
        type's rate, the log of the number of items, days since the last basket, and numbers of baskets and of lines.
        """
        self._lay_out(examples.catalogue)
        rows, columns_N = np.unique(examples.campaigns_N, return_inverse=True)
        contents = [self._content(examples.catalogue, row) for row in rows.tolist()]
        usual_N = np.log([base_V[content].sum() + SMALLEST if len(content) else np.nan for content in contents])
        usual_N, sizes_N = usual_N[columns_N], np.log1p([len(content) for content in contents])[columns_N]
        rate_N = rates(examples)
        about_campaign = np.stack([pooled_NX[:, 0] - usual_N, usual_N, np.log(rate_N / (1 - rate_N)), sizes_N], axis=1)
        about_user = user_facts(examples.histories)[examples.users_N]
        return np.concatenate([pooled_NX, about_campaign, about_user], axis=1).astype(np.float32)

    def sequences(self, histories: Histories, catalogue: Catalogue) -> Sequences:
        """The users' last lines, as the item ranker reads them."""
        self._lay_out(catalogue)
        return self.vocabulary.sequences(histories, self._rows_R, most_events=self._most_events)

    def _lay_out(self, catalogue: Catalogue) -> None:
        if self._version != catalogue.version:
            self._rows_R = self.vocabulary.rows_R(catalogue)
            self._version, self._campaigns = catalogue.version, {}

    def _content(self, catalogue: Catalogue, row: int) -> NDArray[np.int64]:
        """Rows in the vocabulary of a campaign's items."""
        found = self._campaigns.get(row)
        if found is None:
            found = self._campaigns[row] = self.vocabulary.campaign(catalogue, row, self._rows_R)
        return found


def user_facts(histories: Histories) -> NDArray[np.float64]:
    """Days since the last basket (NaN without one), number of baskets and of lines of each user: float64 [U, 3]."""
    starts_U, ends_U = histories.basket_offsets[:-1], histories.basket_offsets[1:]
    baskets_U = ends_U - starts_U
    lines_U = histories.line_offsets[ends_U] - histories.line_offsets[starts_U]
    recency_U = np.full(len(baskets_U), np.nan)
    some_U = baskets_U > 0
    recency_U[some_U] = histories.age_days_B[ends_U[some_U] - 1]
    return np.stack([recency_U, baskets_U, lines_U], axis=1)
