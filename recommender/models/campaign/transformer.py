"""The campaign transformer: a linear part on portrait and affinity, and an encoder of purchases and looks in order.

1. The encoder is pretrained on every user's purchases before the boundary to predict the next one. In a shop with looks
   it reads them in between (`interleaved`).
2. Its prediction for a campaign's items (`tower.sequence_features`) joins the features of the logistic baseline in one
   L2-penalised logistic regression at its optimum (the wide part of Cheng et al., "Wide & Deep", DLRS 2016), with ridge
   regressions for spend and excess.
3. A small tower and the encoder's blocks learn the rest from the labels. The latest campaigns of the training pairs
   choose how many passes help, possibly none.

Shapes: N pairs · U histories · L baskets · D width · F features · E inputs of the linear part · S sequence features · H
heads.
"""

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recommender.engine.context import FitContext
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.logistic import sigmoid
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import NextLines, Ranker, Scores
from recommender.models.campaign.schema import as_trained, of_examples
from recommender.models.campaign.tower import HEADS, CampaignContent
from recommender.models.campaign.transformer_config import TransformerConfig
from recommender.models.campaign.transformer_network import USERS_A_BATCH, Network, encode, recency
from recommender.models.campaign.vocabulary import Vocabulary

MAX_KEPT_CAMPAIGNS = 256
"""Laid-out campaigns that are kept between calls. Beyond this only those of the present call are, which bounds the
memory. Chosen by hand."""


class TransformerRanker(Ranker[TransformerConfig]):
    """Portrait, affinity and the order of purchases together."""

    name = "transformer"
    Config = TransformerConfig
    trains_on_gpu = True
    calibration_fits = 0
    encodes_order = True

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        vocabulary: Vocabulary,
        names: tuple[str, ...],
        config: TransformerConfig,
        notes: Mapping[str, Any],
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        # In float64: else a user's score would depend, in its sixth decimal, on who else is in the batch.
        self._exact = copy.deepcopy(self.network).double()
        self._preprocessing, self.vocabulary, self._names = preprocessing, vocabulary, names
        self._hyperparameters, self.notes = config, dict(notes)
        self._catalogue: Catalogue | None = None
        self._rows: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: TransformerConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Pretrain, fit the linear part, fine-tune. Raises as `Ranker.fit`.

        With `earlier`, pretraining starts from that fit's encoder.
        """
        from recommender.models.campaign.transformer_fit import fit

        started_from = earlier if isinstance(earlier, TransformerRanker) else None
        fitted = fit(
            examples,
            labels,
            corpus,
            config,
            context,
            earlier=None if started_from is None else (started_from.network, started_from.vocabulary),
        )
        return cls(
            fitted.network, fitted.preprocessing, fitted.vocabulary, examples.feature_names, config, fitted.notes
        )

    @torch.inference_mode()
    def score(self, examples: Examples) -> Scores:
        """Predict participation, spend (at least 0) and excess of N pairs."""
        examples = as_trained(self._names, examples)
        num_pairs = len(examples.users_N)
        self._lay_out(examples)
        column_of = {row: column for column, row in enumerate(self._rows)}
        columns_N = torch.tensor([column_of[row] for row in examples.campaigns_N.tolist()], dtype=torch.int64)
        states_UD = self._states(examples.histories, examples.catalogue)
        recency_U, baskets_U = (of_users.double() for of_users in recency(examples.histories))
        z_NE = torch.from_numpy(self._preprocessing(examples.features_NF)).double()
        users_N = torch.from_numpy(examples.users_N.astype(np.int64))
        out_NH = torch.empty(num_pairs, len(HEADS), dtype=torch.float64)
        for start in range(0, num_pairs, USERS_A_BATCH):
            some = slice(start, start + USERS_A_BATCH)
            who = users_N[some]
            out = self._exact(
                z_NE[some], states_UD[who], columns_N[some], self._content, recency_U[who], baskets_U[who]
            )
            out_NH[some] = out.mean(dim=0)
        spend_N, excess_N = (self._unfolded(out_NH[:, head + 1], head) for head in range(2))
        return Scores(redeem_N=sigmoid(out_NH[:, 0].numpy()), spend_N=np.maximum(spend_N, 0), excess_N=excess_N)

    def _unfolded(self, folded_N: Tensor, head: int) -> NDArray[np.float32]:
        """Asinh of money -> currency units."""
        factor, low, high = self.network.money_range[head].tolist()
        return np.asarray((factor * torch.sinh(folded_N.clamp(low, high))).numpy(), dtype=np.float32)

    def _lay_out(self, examples: Examples) -> None:
        """Keep the catalogue's item vectors and the campaigns' content between calls, as long as they are the same."""
        catalogue = examples.catalogue
        self._lay_out_items(catalogue)
        asked = set(examples.campaigns_N.tolist())
        if not asked <= set(self._rows):
            rows = sorted(asked | set(self._rows)) if len(self._rows) < MAX_KEPT_CAMPAIGNS else sorted(asked)
            self._content = CampaignContent.of(catalogue, rows, self._axes_VA, self._vectors_VD, self._exact.encoder)
            self._rows = tuple(rows)

    def _lay_out_items(self, catalogue: Catalogue) -> None:
        if self._catalogue is not catalogue and (
            self._catalogue is None or self._catalogue.version != catalogue.version
        ):
            self._axes_VA = torch.from_numpy(self.network.embedding_rows(self.vocabulary, catalogue))
            self._vectors_VD = self._exact.encoder.item_vectors(self._axes_VA)
            self._catalogue, self._rows = catalogue, ()

    @torch.inference_mode()
    def encoded(self, histories: Histories, catalogue: Catalogue) -> NDArray[np.float32]:
        """The encoder's state after each user's last basket."""
        return np.asarray(self._states(histories, catalogue).float().numpy())

    @torch.inference_mode()
    def next_lines(self, histories: Histories, catalogue: Catalogue) -> NextLines:
        """The distribution over the axis that the encoder was pretrained to predict."""
        log_odds_UV = self._exact.encoder.next_log_odds(self._states(histories, catalogue))
        axis = AXES[self.vocabulary.target]
        # Row 0 stands for values without an embedding of their own.
        p_UV = log_odds_UV.softmax(dim=1)[:, 1:].float().numpy()
        return NextLines(axis=axis, values=self.vocabulary.values[axis], p_UV=p_UV)

    def _states(self, histories: Histories, catalogue: Catalogue) -> Tensor:
        self._lay_out_items(catalogue)
        return encode(self._exact.encoder, self._vectors_VD, self.network.read(histories, catalogue))

    def contributions(self, examples: Examples) -> NDArray[np.float32]:
        """Contributions of the linear part, float32 [N, F]. Those of encoder and tower belong to no feature."""
        z_NE = self._preprocessing(as_trained(self._names, examples).features_NF)
        added_NT = self._preprocessing.by_feature(z_NE * self.network.linear_HE[0, : z_NE.shape[1]].numpy())
        return of_examples(added_NT, self._names, examples)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Preprocessing and the network's state."""
        network = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        return {**self._preprocessing.tensors(), **network}

    def config(self) -> dict[str, Any]:
        """Hyperparameters, feature names, vocabulary, and notes on the fit."""
        return {
            "hyper": self._hyperparameters.model_dump(),
            "feature_names": list(self._names),
            "vocabulary": self.vocabulary.as_json(),
            "predicts": AXES[self.vocabulary.target],
            "notes": self.notes,
            # A bundle of a shop without looks is as it was before the encoder read looks.
            **({"look_kinds": self.network.look_kinds} if self.network.look_kinds else {}),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker from `tensors()` and `config()`."""
        hyperparameters = TransformerConfig.model_validate(config["hyper"])
        vocabulary = Vocabulary.from_json(config["vocabulary"])
        preprocessing = Preprocessing.restore(tensors, clip=hyperparameters.clip)
        look_kinds = config.get("look_kinds", 0)
        network = Network(vocabulary, preprocessing.num_inputs, hyperparameters, look_kinds=look_kinds)
        prefix = "network."
        state = {
            name.removeprefix(prefix): torch.from_numpy(np.array(value))
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(state)
        return cls(network, preprocessing, vocabulary, tuple(config["feature_names"]), hyperparameters, config["notes"])
