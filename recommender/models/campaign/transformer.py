"""The first transformer: a linear part that reads portrait and affinity, and a sequence encoder that reads what came in which order.

1. `encoder`: pretrained on every user's purchases before the boundary to say what the next basket holds.
2. Its answer about a campaign's content (`tower.sequence_features`) joins the features of the logistic baseline in one L2-penalised
   logistic regression at its optimum (wide, as in Cheng et al., Wide & Deep, DLRS 2016), with ridge heads for the money.
3. A small tower and the encoder's blocks learn the rest from the labels; how many epochs that is worth, if any, is told by the
   last campaigns of the training pairs.

Shapes: N pairs · U histories · L baskets · D width · F features · E linear inputs · S sequence features.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recommender.engine.context import FitContext
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.logistic import sigmoid
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.campaign.schema import require_features
from recommender.models.campaign.tower import CampaignContent
from recommender.models.campaign.transformer_network import HEADS, USERS_A_BATCH, Network, encode, recency
from recommender.models.campaign.vocabulary import Vocabulary

DEFAULTS: dict[str, Any] = {
    "width": 64,
    "blocks": 2,
    "heads": 2,
    "baskets": 64,
    "hidden": 32,
    "members": 3,
    "min_lines": 5,
    "min_product_lines": 50,
    "pretrain_epochs": 2,
    "pretrain_min_steps": 300,
    "continue_epochs": 1,
    "pretrain_rate": 2e-3,
    "pretrain_batch": 32,
    "pretrain_dropout": 0.1,
    "tune_epochs": 1,
    "tune_rate": 9e-4,
    "tune_batch": 256,
    "tune_dropout": 0.3,
    "tune_weight_decay": 0.05,
    "money_weight": 0.05,
    "held_out": 0.2,
    "strength": 0.0028,
    "ridge": 300.0,
    "clip": 3.7,
}


class TransformerRanker(Ranker):
    """Portrait and affinity, and the order in which things were bought."""

    name = "transformer"
    trains_on_gpu = True

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        vocabulary: Vocabulary,
        names: tuple[str, ...],
        hyper: Mapping[str, Any],
        notes: Mapping[str, Any],
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self._preprocessing, self.vocabulary, self._names = preprocessing, vocabulary, names
        self._hyper, self.notes = dict(hyper), dict(notes)
        self._catalogue: Catalogue | None = None
        self._rows: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: Mapping[str, Any],
        context: FitContext,
        earlier: Ranker | None = None,
    ) -> Self:
        from recommender.models.campaign.transformer_fit import fit

        started_from = earlier if isinstance(earlier, TransformerRanker) else None
        parts = fit(
            examples,
            labels,
            corpus,
            {**DEFAULTS, **config},
            context,
            earlier=None if started_from is None else (started_from.network, started_from.vocabulary),
        )
        return cls(*parts)

    @torch.inference_mode()
    def score(self, examples: Examples) -> Scores:
        require_features(self._names, examples)
        num_pairs = len(examples.users_N)
        self._lay_out(examples)
        column_of = {row: column for column, row in enumerate(self._rows)}
        columns_N = torch.tensor([column_of[row] for row in examples.campaigns_N.tolist()], dtype=torch.int64)
        states_UD = encode(self.network.encoder, self._vectors_VD, examples.histories)
        recency_U, baskets_U = recency(examples.histories)
        z_NE = torch.from_numpy(self._preprocessing(examples.features_NF))
        users_N = torch.from_numpy(examples.users_N.astype(np.int64))
        out_NH = torch.empty(num_pairs, len(HEADS))
        for start in range(0, num_pairs, USERS_A_BATCH):
            some = slice(start, start + USERS_A_BATCH)
            who = users_N[some]
            out = self.network(
                z_NE[some], states_UD[who], columns_N[some], self._content, recency_U[who], baskets_U[who]
            )
            out_NH[some] = out.mean(dim=0)
        money = [self._unfolded(out_NH[:, head + 1], head) for head in range(2)]
        return Scores(redeem_N=sigmoid(out_NH[:, 0].numpy()), spend_N=np.maximum(money[0], 0), excess_N=money[1])

    def _unfolded(self, folded_N: Tensor, head: int) -> NDArray[np.float32]:
        factor, low, high = self.network.money_range[head].tolist()
        return np.asarray((factor * torch.sinh(folded_N.clamp(low, high))).numpy(), dtype=np.float32)

    def _lay_out(self, examples: Examples) -> None:
        """Keep the catalogue's item vectors and the asked campaigns' content until another catalogue or campaign comes."""
        catalogue = examples.catalogue
        if self._catalogue is not catalogue and (
            self._catalogue is None or self._catalogue.version != catalogue.version
        ):
            self._axes_VA = torch.from_numpy(self.vocabulary.rows(catalogue))
            self._vectors_VD = self.network.encoder.item_vectors(self._axes_VA)
            self._catalogue, self._rows = catalogue, ()
        asked = set(examples.campaigns_N.tolist())
        if not asked <= set(self._rows):
            rows = sorted(asked | set(self._rows)) if len(self._rows) < 256 else sorted(asked)
            self._content = CampaignContent.of(catalogue, rows, self._axes_VA, self._vectors_VD, self.network.encoder)
            self._rows = tuple(rows)

    def contributions(self, examples: Examples) -> NDArray[np.float32]:
        """Those of the linear part, exact; what the encoder and the tower add is not divided among the features."""
        require_features(self._names, examples)
        z_NE = self._preprocessing(examples.features_NF)
        added_NE = z_NE * self.network.linear_HE[0, : z_NE.shape[1]].numpy()
        added_NF = np.ascontiguousarray(added_NE[:, : len(self._names)])
        added_NF[:, self._preprocessing.missing_M] += added_NE[:, len(self._names) :]
        return added_NF

    def tensors(self) -> dict[str, NDArray[Any]]:
        network = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        return {**self._preprocessing.tensors(), **network}

    def config(self) -> dict[str, Any]:
        return {
            "hyper": self._hyper,
            "feature_names": list(self._names),
            "clip": self._preprocessing.clip,
            "vocabulary": self.vocabulary.as_json(),
            "predicts": AXES[self.vocabulary.target],
            "notes": self.notes,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        vocabulary = Vocabulary.from_json(config["vocabulary"])
        preprocessing = Preprocessing.restore(tensors, clip=float(config["clip"]))
        network = Network(vocabulary, len(preprocessing.feature_of_E), config["hyper"])
        prefix = "network."
        state = {
            name.removeprefix(prefix): torch.from_numpy(np.array(value))
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(state)
        names = tuple(config["feature_names"])
        return cls(network, preprocessing, vocabulary, names, config["hyper"], config["notes"])
