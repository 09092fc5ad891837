"""Sequential rules for items that nobody took yet: a cold item borrows the rules of the warm items with the most similar content.

Content is the attributes (weighted by how rare they are) and the text's vector by a pretrained encoder. What a cold item borrows is
kept in the weights, so that scoring needs no encoder. Gantner et al., "Learning attribute-to-feature mappings for cold-start
recommendations", 2010 (k-nearest-neighbour mapping); the rules are those of `rules`.

Shapes: U users · V items, rows 1 … V · c cold items · w warm items · K attribute values · D width of a text's vector.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item import rules
from recommender.models.next_item.content import content_vectors
from recommender.models.next_item.rules import Rules
from recommender.sequences import Items, Sequences
from recommender.sequences.text import encoder_folder, text_vectors

DEFAULTS: dict[str, Any] = {
    **rules.DEFAULTS,
    "neighbours": 20,
    "own": 0.1,
    "attribute_weight": 1.0,
    "text": True,
    "text_weight": 1.0,
    "text_cache": "",
}
"""neighbours: how many warm items a cold one borrows from, by their similarity · own: what a neighbour in the user's history itself adds,
in units of a strong rule · attribute_weight, text_weight: parts of the similarity · text: True is the packaged MiniLM, a folder is
another encoder, False is none · text_cache: folder for vectors, "" is none. All others are those of `rules`."""
SEARCHED: Space = {**rules.SEARCHED, "neighbours": Range(5, 100, log=True), "own": Range(0.01, 1.0, log=True)}
COLD_AT_ONCE = 512


class ContentRules(Rules):
    """Rules, with those of cold items borrowed from their likes."""

    name: ClassVar[str] = "content_rules"

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        """As `Rules.fit`, then the rules of items without an event in `sequences`. Items without content stay without rules.

        Raises:
            SettingsError: there are texts, and no encoder for them.
        """
        hyper = {**DEFAULTS, **config}
        warm = super().fit(sequences, held_out_U=held_out_U, config=hyper, context=context)
        kin_VV = kin(sequences.items, warm.popularity_V > 0, hyper)
        follows_VV = warm.follows_VV
        strong = float(np.quantile(follows_VV.data, 0.99)) if follows_VV.nnz else 1.0
        own_VV = float(hyper["own"]) * strong * sparse.identity(follows_VV.shape[0], dtype=np.float32, format="csr")
        full_VV = follows_VV + (follows_VV + own_VV) @ kin_VV.T + kin_VV @ follows_VV
        return cls(full_VV.tocsr().astype(np.float32), warm.popularity_V, hyper)


def kin(items: Items, warm_V: NDArray[np.bool_], hyper: Mapping[str, Any]) -> sparse.csr_matrix:
    """For each cold item its most similar warm ones, similarities summing to 1: [V + 1, V + 1], empty rows for all others.

    Raises:
        SettingsError: `hyper["text"]` names no encoder, whether one is needed or not.
    """
    if isinstance(hyper["text"], str) and hyper["text"]:
        encoder_folder(hyper["text"])
    size = items.num + 1
    warm = np.flatnonzero(warm_V)
    cold = np.setdiff1d(np.arange(1, size), warm)
    number = min(int(hyper["neighbours"]), len(warm))
    if not number or not len(cold):
        return sparse.csr_matrix((size, size), dtype=np.float32)
    attributes_VK = float(hyper["attribute_weight"]) * content_vectors(items)
    texts_VD = float(hyper["text_weight"]) * item_text_vectors(items, hyper["text"], hyper["text_cache"])
    warm_Kw, warm_Dw = attributes_VK[warm].T.tocsr(), texts_VD[warm].T
    rows, columns, weights = [], [], []
    for first in range(0, len(cold), COLD_AT_ONCE):
        some = cold[first : first + COLD_AT_ONCE]
        alike_cw = np.asarray((attributes_VK[some] @ warm_Kw).todense()) + texts_VD[some] @ warm_Dw
        best = np.argsort(-alike_cw, axis=1, kind="stable")[:, :number]
        weight = np.maximum(np.take_along_axis(alike_cw, best, axis=1), 0.0)
        total = weight.sum(axis=1, keepdims=True)
        weights.append((weight / np.where(total > 0, total, 1.0)).ravel())
        columns.append(warm[best].ravel())
        rows.append(np.repeat(some, number))
    matrix = sparse.csr_matrix(
        (np.concatenate(weights).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))),
        shape=(size, size),
    )
    matrix.eliminate_zeros()
    return matrix


def item_text_vectors(items: Items, text: bool | str, cache: str) -> NDArray[np.float32]:
    """Vectors of the items' texts, of length 1 (0 without a text): float32 [V + 1, D]; D = 0 where there are none."""
    if not text or items.texts is None or not any(items.texts):
        return np.zeros((items.num + 1, 0), dtype=np.float32)
    encoder = text if isinstance(text, str) else ""
    return text_vectors(["", *items.texts], encoder=encoder, cache=Path(cache) if cache else None)
