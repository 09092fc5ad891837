"""The transformer's network: basket encoder, tower, and the weights of the linear part.

Shapes: as in `transformer`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_history import Histories
from recommender.models.campaign.encoder import BasketEncoder, batch_of
from recommender.models.campaign.interleaved import interleaved, shared_rows
from recommender.models.campaign.tower import HEADS, SEQUENCE_FEATURES, CampaignContent, Tower, sequence_features
from recommender.models.campaign.transformer_config import TransformerConfig
from recommender.models.campaign.vocabulary import Vocabulary

USERS_A_BATCH = 256
"""Users (or pairs) that are scored together: enough to fill the matrix products, little memory. Chosen by hand."""
FARTHEST_SEQUENCE = 5.0
"""Standard deviations at which sequence features are clipped. Chosen by hand."""
UNKNOWN_RECENCY_DAYS = 365.0
"""Stands for the days since the last basket of a user without one: a year. Chosen by hand."""


class Network(nn.Module):
    """Encoder, tower and weights of the linear part: everything that a score needs beside the preprocessing."""

    def __init__(
        self, vocabulary: Vocabulary, num_inputs: int, config: TransformerConfig, *, look_kinds: int = 0
    ) -> None:
        """Make new weights. `look_kinds`: how many kinds of looks the encoder reads, 0 if the shop has no looks."""
        super().__init__()
        self.look_kinds, self.most_baskets, self.most_looks = look_kinds, config.baskets, config.look_baskets
        self.encoder = BasketEncoder(
            vocabulary.sizes,
            vocabulary.target,
            width=config.width,
            blocks=config.blocks,
            heads=config.heads,
            baskets=config.baskets + (config.look_baskets if look_kinds else 0),
            dropout=config.pretrain_dropout,
            look_kinds=look_kinds,
        )
        self.tower = Tower(config.width, config.hidden, config.members, config.tune_dropout)
        num_sequence = len(SEQUENCE_FEATURES)
        self.base_V: Tensor
        self.sequence_mean_S: Tensor
        self.sequence_inverse_S: Tensor
        self.linear_HE: Tensor
        self.linear_bias_H: Tensor
        self.money_range: Tensor
        self.register_buffer("base_V", torch.zeros(vocabulary.sizes[vocabulary.target]))
        self.register_buffer("sequence_mean_S", torch.zeros(num_sequence))
        self.register_buffer("sequence_inverse_S", torch.ones(num_sequence))
        self.register_buffer("linear_HE", torch.zeros(len(HEADS), num_inputs + num_sequence))
        self.register_buffer("linear_bias_H", torch.zeros(len(HEADS)))
        # Of spend and excess: factor after sinh, lowest and highest asinh. Until fitted: about nothing.
        self.register_buffer("money_range", torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]]))

    def embedding_rows(self, vocabulary: Vocabulary, catalogue: Catalogue) -> NDArray[np.int64]:
        """Embedding rows of what baskets hold: the catalogue's items, and with looks the values of its axes behind."""
        rows_VA = vocabulary.rows(catalogue)
        return shared_rows(rows_VA, vocabulary.value_rows(catalogue)) if self.look_kinds else rows_VA

    def read(self, histories: Histories, catalogue: Catalogue, *, whole: bool = False) -> Histories:
        """The baskets that the encoder reads of users: of purchases and, if it reads looks, of these.

        Args:
            histories: of users.
            catalogue: the one to whose rows the histories refer.
            whole: take all baskets instead of the latest.
        """
        if not self.look_kinds:
            return histories
        most = (None, None) if whole else (self.most_baskets, self.most_looks)
        return interleaved(histories, catalogue, kinds=self.look_kinds, baskets=most[0], looks=most[1])

    def sequence(
        self,
        states_ND: Tensor,
        campaigns_N: Tensor,
        content: CampaignContent,
        recency_N: Tensor,
        baskets_N: Tensor,
    ) -> Tensor:
        """Standardised sequence features: [N, S]."""
        raw_NS = sequence_features(self.encoder, states_ND, campaigns_N, content, self.base_V, recency_N, baskets_N)
        z_NS = (raw_NS - self.sequence_mean_S) * self.sequence_inverse_S
        return z_NS.clamp(-FARTHEST_SEQUENCE, FARTHEST_SEQUENCE)

    def forward(
        self,
        z_NE: Tensor,
        states_ND: Tensor,
        campaigns_N: Tensor,
        content: CampaignContent,
        recency_N: Tensor,
        baskets_N: Tensor,
    ) -> Tensor:
        """Predict log-odds of participation, asinh of spend and of excess, one answer a member: [members, N, H]."""
        sequence_NS = self.sequence(states_ND, campaigns_N, content, recency_N, baskets_N)
        linear_NH = torch.cat([z_NE, sequence_NS], dim=1) @ self.linear_HE.T + self.linear_bias_H
        corrections = self.tower(
            states_ND, content.vectors_CD[campaigns_N], sequence_NS, linear_NH[:, 0], content.log_days_C[campaigns_N]
        )
        out: Tensor = linear_NH + corrections
        return out


def last_baskets(histories: Histories, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of each user's last `most` baskets."""
    ends_U = histories.basket_offsets[1:]
    return np.maximum(histories.basket_offsets[:-1], ends_U - most), ends_U


def encode(encoder: BasketEncoder, vectors_VD: Tensor, histories: Histories) -> Tensor:
    """Encode each user's state after the last basket: [U, D]. `vectors_VD`: vectors of the catalogue's items."""
    starts_U, ends_U = last_baskets(histories, encoder.baskets)
    # Users of about equal length share a batch, which wastes little on padding.
    order = np.argsort(ends_U - starts_U, kind="stable")
    out_UD = vectors_VD.new_empty(len(starts_U), vectors_VD.shape[1])
    for first in range(0, len(order), USERS_A_BATCH):
        some = order[first : first + USERS_A_BATCH]
        batch = batch_of(histories, starts_U[some], ends_U[some], whole=True)
        states_BLD = encoder(encoder.pooled(vectors_VD, batch), batch.facts_BLX)
        out_UD[torch.from_numpy(some)] = states_BLD[torch.arange(len(some)), batch.lengths_B]
    return out_UD


def recency(histories: Histories) -> tuple[Tensor, Tensor]:
    """Days since each user's last basket, and how many baskets are known: float32 [U] each."""
    num_U = np.diff(histories.basket_offsets)
    days_U = np.full(len(num_U), UNKNOWN_RECENCY_DAYS, dtype=np.float32)
    bought_U = num_U > 0
    days_U[bought_U] = histories.age_days_B[histories.basket_offsets[1:][bought_U] - 1]
    return torch.from_numpy(np.maximum(days_U, 0)), torch.from_numpy(num_U.astype(np.float32))
