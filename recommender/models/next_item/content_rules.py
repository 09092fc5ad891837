"""Sequential rules that reach items without events: a cold item borrows the rules of the most similar warm items.

Content is the attributes (weighted by how rare they are) and the text's vector by a pretrained encoder. Borrowed rules
are kept in the weights, so scoring needs no encoder. Gantner et al., "Learning attribute-to-feature mappings for
cold-start recommendations", 2010 (k-nearest-neighbour mapping); the rules are those of `rules`.

Shapes: U users · V items, rows 1 … V · c cold items · w warm items · K attribute values · D width of a text's vector.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range
from recommender.models.next_item.content import content_vectors
from recommender.models.next_item.fields import Text, TextCache
from recommender.models.next_item.rules import FollowingItems, RulesConfig
from recommender.sequences import Items, Sequences
from recommender.sequences.text import encoder_folder, text_vectors

COLD_AT_ONCE = 512
"""Cold items compared with all warm ones at once. It bounds memory: 512 x 100,000 float32 similarities take 0.2 GB."""
STRONG_QUANTILE = 0.99
"""Quantile of all rules' weights that counts as a strong rule. Chosen by hand: the largest weight may be a fluke."""


class ContentRulesConfig(RulesConfig):
    """Hyperparameters of rules with borrowing, those of its own chosen by hand, as are their search ranges."""

    neighbours: Annotated[int, Range(5, 100, log=True)] = Field(
        20, ge=1, description="Number of similar warm items whose rules a cold item uses."
    )
    own: Annotated[float, Range(0.01, 1.0, log=True)] = Field(
        0.1,
        ge=0,
        description="Score that a neighbour in the user's own history adds to a cold item, in units of a strong rule.",
    )
    attribute_weight: float = Field(1.0, ge=0, description="Weight of the attributes' cosine in the similarity.")
    text: Text = True
    text_weight: float = Field(1.0, ge=0, description="Weight of the texts' cosine in the similarity.")
    text_cache: TextCache = ""


class ContentRules(FollowingItems[ContentRulesConfig]):
    """Rules, those of cold items borrowed from the most similar warm ones."""

    name: ClassVar[str] = "content_rules"
    Config: ClassVar[type[ContentRulesConfig]] = ContentRulesConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: ContentRulesConfig,
        context: FitContext,
    ) -> Self:
        """Fit the rules, then those of items without an event in `sequences`. Items without content stay without rules.

        Raises:
            SettingsError: the items have texts, and there is no encoder for them.
        """
        warm = super().fit(sequences, held_out_U=held_out_U, config=config, context=context)
        nearest_VV = nearest_warm_items(sequences.items, warm.popularity_V > 0, config)
        follows_VV = warm.follows_VV
        strong = float(np.quantile(follows_VV.data, STRONG_QUANTILE)) if follows_VV.nnz else 1.0
        own_VV = config.own * strong * sparse.identity(follows_VV.shape[0], dtype=np.float32, format="csr")
        full_VV = follows_VV + (follows_VV + own_VV) @ nearest_VV.T + nearest_VV @ follows_VV
        return cls(full_VV.tocsr().astype(np.float32), warm.popularity_V, config)


def nearest_warm_items(items: Items, warm_V: NDArray[np.bool_], config: ContentRulesConfig) -> sparse.csr_matrix:
    """For each cold item its most similar warm items, weights that sum to 1: [V + 1, V + 1], other rows empty.

    Raises:
        SettingsError: `text` names no encoder, whether one is needed or not.
    """
    if isinstance(config.text, str) and config.text:
        encoder_folder(config.text)
    size = items.num + 1
    warm = np.flatnonzero(warm_V)
    cold = np.setdiff1d(np.arange(1, size), warm)
    number = min(config.neighbours, len(warm))
    if not number or not len(cold):
        return sparse.csr_matrix((size, size), dtype=np.float32)
    attributes_VK = config.attribute_weight * content_vectors(items)
    texts_VD = config.text_weight * item_text_vectors(items, config.text, config.text_cache)
    warm_Kw, warm_Dw = attributes_VK[warm].T.tocsr(), texts_VD[warm].T
    rows, columns, weights = [], [], []
    for first in range(0, len(cold), COLD_AT_ONCE):
        batch = cold[first : first + COLD_AT_ONCE]
        alike_cw = np.asarray((attributes_VK[batch] @ warm_Kw).todense()) + texts_VD[batch] @ warm_Dw
        best = np.argsort(-alike_cw, axis=1, kind="stable")[:, :number]
        weight = np.maximum(np.take_along_axis(alike_cw, best, axis=1), 0.0)
        total = weight.sum(axis=1, keepdims=True)
        weights.append((weight / np.where(total > 0, total, 1.0)).ravel())
        columns.append(warm[best].ravel())
        rows.append(np.repeat(batch, number))
    matrix = sparse.csr_matrix(
        (np.concatenate(weights).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))),
        shape=(size, size),
    )
    matrix.eliminate_zeros()
    return matrix


def item_text_vectors(items: Items, text: bool | str, cache: str) -> NDArray[np.float32]:
    """Vectors of the items' texts, of length 1 (0 without a text): float32 [V + 1, D], D = 0 without any text."""
    if not text or items.texts is None or not any(items.texts):
        return np.zeros((items.num + 1, 0), dtype=np.float32)
    encoder = text if isinstance(text, str) else ""
    return text_vectors(["", *items.texts], encoder=encoder, cache=Path(cache) if cache else None)
