"""The transformer's fit: pretraining, linear part, fine-tuning. Only training loads it, serving never does.

Shapes: as in `transformer`.
"""

from dataclasses import dataclass
from typing import Any

import torch

from recommender.engine.context import FitContext
from recommender.engine.loop import reproducible, seed_of
from recommender.matching.examples import Examples, Labels
from recommender.matching.look_rules import KINDS
from recommender.matching.packed_history import Histories
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.transformer_config import TransformerConfig
from recommender.models.campaign.transformer_network import Network
from recommender.models.campaign.transformer_pretrain import line_shares, pretrain, start_from
from recommender.models.campaign.transformer_tune import LabelledPairs, fine_tune
from recommender.models.campaign.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of a fit."""

    network: Network
    preprocessing: Preprocessing
    vocabulary: Vocabulary
    notes: dict[str, Any]
    """Passes of fine-tuning, and the held-out log loss after each that was tried."""


def fit(
    examples: Examples,
    labels: Labels,
    corpus: Histories,
    config: TransformerConfig,
    context: FitContext,
    *,
    earlier: tuple[Network, Vocabulary] | None,
) -> Fitted:
    """Fit a transformer, as `Ranker.fit` describes. `earlier`: parts of a fit at an earlier boundary."""
    known_N = known_redemptions(labels)
    vocabulary = Vocabulary.of(
        examples.catalogue, corpus.items_T, min_lines=config.min_lines, min_product_lines=config.min_product_lines
    )
    preprocessing = Preprocessing.fit(examples.features_NF[known_N], clip=config.clip)
    z_NE = preprocessing(examples.features_NF)
    has_looks = config.look_baskets > 0 and examples.histories.looks is not None
    with reproducible(context) as device:
        torch.manual_seed(seed_of(context.seed, "weights", 0))
        network = Network(vocabulary, z_NE.shape[1], config, look_kinds=len(KINDS) if has_looks else 0).to(device)
        if earlier is not None:
            start_from(network, vocabulary, *earlier)
        axes_VA = torch.from_numpy(network.embedding_rows(vocabulary, examples.catalogue)).to(device)
        network.base_V.copy_(line_shares(axes_VA, corpus, network))
        pretrain(
            network,
            network.read(corpus, examples.catalogue, whole=True),
            axes_VA,
            config,
            context,
            warm=earlier is not None,
        )
        pairs = LabelledPairs(network, examples, labels, z_NE, axes_VA, config, device)
        pairs.fit_linear(known_N)
        notes = fine_tune(pairs, known_N, config, context)
    return Fitted(network.cpu(), preprocessing, vocabulary, notes)
