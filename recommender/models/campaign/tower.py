"""The campaign tower: compares a user's state with a campaign's content.

A campaign's content is the mean of its items' embeddings and the values that it covers on the predicted axis. So the
predicted share of the next basket that falls on a campaign is a plain sum of probabilities. A new campaign needs no
training for this.

Shapes: N pairs · C campaigns · D width · V predicted values · S sequence features · H heads.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.datasets.time_units import DAY_US
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign.encoder import BasketEncoder

HEADS = ("redeem", "spend", "excess")
"""The predicted quantities of a pair, in the order of the network's outputs."""
SEQUENCE_FEATURES = (
    "log_mass",
    "log_lift",
    "log_best",
    "log_share",
    "match",
    "log_recency",
    "log_baskets",
)
"""Inputs of the linear part that come from the encoder: log of the campaign's predicted share of the next basket, the
same over the share of all users, log of its likeliest value, log of the probability averaged over its items, likeness
of state and content, and log of how lately and often the user bought."""
SMALLEST = 1e-6
"""Added to a probability before its logarithm. Chosen by hand, far below the share of any value that has an
embedding."""
DAYS_SCALE = 4.0
"""Divides log(1 + days) of a campaign's length, so that a month (3.4) is about 1. Chosen by hand."""


@dataclass(frozen=True, eq=False)
class CampaignContent:
    """The content of C campaigns."""

    vectors_CD: Tensor
    """Mean of the items' vectors. 0 where a campaign has no items."""
    present_CV: Tensor
    """1 where the campaign has an item with this value."""
    share_CV: Tensor
    """Share of the campaign's items with this value."""
    log_days_C: Tensor
    """Scaled logarithm of the campaign's length in days."""

    @classmethod
    def of(
        cls, catalogue: Catalogue, rows: list[int], axes_VA: Tensor, vectors_VD: Tensor, encoder: BasketEncoder
    ) -> "CampaignContent":
        """Lay out the campaigns at `rows` of the catalogue."""
        num_values, dtype = encoder.bias_V.shape[0], torch.promote_types(vectors_VD.dtype, torch.float32)
        vectors, present, share = [], [], []
        for row in rows:
            items = torch.from_numpy(catalogue.items_of(row).astype(np.int64)).to(axes_VA.device)
            counts_V = torch.bincount(axes_VA[items, encoder.target], minlength=num_values).to(dtype)
            counts_V[0] = 0.0
            vectors.append(vectors_VD[items].mean(dim=0) if len(items) else vectors_VD.new_zeros(vectors_VD.shape[1]))
            present.append((counts_V > 0).to(dtype))
            share.append(counts_V / counts_V.sum().clamp(min=1.0))
        days_C = (catalogue.campaign_ends_C[rows] - catalogue.campaign_starts_C[rows]) / DAY_US
        log_days_C = torch.from_numpy(np.log1p(np.maximum(days_C, 0)).astype(np.float32)).to(axes_VA.device, dtype)
        return cls(
            vectors_CD=torch.stack(vectors),
            present_CV=torch.stack(present),
            share_CV=torch.stack(share),
            log_days_C=log_days_C / DAYS_SCALE,
        )


def sequence_features(
    encoder: BasketEncoder,
    states_ND: Tensor,
    campaigns_N: Tensor,
    content: CampaignContent,
    base_V: Tensor,
    recency_N: Tensor,
    baskets_N: Tensor,
) -> Tensor:
    """Compute `SEQUENCE_FEATURES` of N pairs: [N, S].

    Args:
        encoder: Predicts the next basket from a state.
        states_ND: State of each pair's user.
        campaigns_N: Column of each pair's campaign in `content`.
        content: The campaigns.
        base_V: Share of each value among all purchase lines.
        recency_N: Days since each user's last basket.
        baskets_N: Number of each user's known baskets.
    """
    logits_NV = encoder.next_log_odds(states_ND)
    p_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)).softmax(dim=1)
    present_NV = content.present_CV[campaigns_N]
    mass_N = (p_NV * present_NV).sum(dim=1)
    base_N = present_NV @ base_V
    best_N = (p_NV * present_NV).amax(dim=1)
    share_N = (p_NV * content.share_CV[campaigns_N]).sum(dim=1)
    match_N = (states_ND * content.vectors_CD[campaigns_N]).sum(dim=1) / states_ND.shape[1] ** 0.5
    log_mass_N = torch.log(mass_N + SMALLEST)
    return torch.stack(
        [
            log_mass_N,
            log_mass_N - torch.log(base_N + SMALLEST),
            torch.log(best_N + SMALLEST),
            torch.log(share_N + SMALLEST),
            match_N,
            torch.log1p(recency_N),
            torch.log1p(baskets_N),
        ],
        dim=1,
    )


class Tower(nn.Module):
    """Corrects the linear part: a few small networks, whose mean is added to its outputs."""

    def __init__(self, width: int, hidden: int, members: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        # State, content, their product, the sequence features, the linear part's log-odds and the campaign's length.
        inputs = 3 * width + len(SEQUENCE_FEATURES) + 2
        self.norm = nn.LayerNorm(inputs)
        self.hidden = nn.ModuleList(nn.Linear(inputs, hidden) for _ in range(members))
        self.out = nn.ModuleList(nn.Linear(hidden, len(HEADS)) for _ in range(members))
        # Zero at first: before fine-tuning the answer is the linear part's.
        for layer in self.out:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self, states_ND: Tensor, content_ND: Tensor, sequence_NS: Tensor, linear_N: Tensor, days_N: Tensor
    ) -> Tensor:
        """Compute the corrections of each member: [members, N, H]."""
        inputs = [states_ND, content_ND, states_ND * content_ND, sequence_NS, linear_N[:, None], days_N[:, None]]
        x = self.norm(torch.cat(inputs, dim=1))
        out = []
        for hidden, last in zip(self.hidden, self.out, strict=True):
            h = functional.gelu(hidden(functional.dropout(x, self.dropout, self.training)))
            out.append(last(functional.dropout(h, self.dropout, self.training)))
        return torch.stack(out)
