"""Every next-item ranker as a campaign ranker: a small logistic regression on its pooled scores of a campaign's items.

1. The item ranker is fitted on all purchases before the boundary, over the items with enough purchase lines.
2. Its scores become weights and strengths of items (`item_pooling`). A campaign is described by the sum of its items'
   weights, that sum over the average user's, its strongest item and its ten strongest.
3. These, the campaign type's past rate, the campaign's size, and how lately and often the user bought, enter an
   L2-penalised logistic regression (`ItemInputs.inputs`).

A campaign whose items are all unknown is represented by the known items nearest in the taxonomy. Where there are none
either, its pooled inputs are missing values.

Shapes: N pairs · V items, rows 1 … V · E inputs of the regression after preprocessing.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range, Space
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.item_inputs import ItemInputs
from recommender.models.campaign.item_pooling import weights_and_strengths
from recommender.models.campaign.item_vocabulary import ItemVocabulary
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.logistic import fit_logistic, sigmoid
from recommender.models.campaign.popularity import PRIOR_PAIRS, TypeRates, type_rates
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import NextLines, Ranker, Scores
from recommender.models.next_item import ItemRanker, item_ranker_class

SHORTER: Mapping[str, Mapping[str, Any]] = {
    **{name: {"epochs": 1} for name in ("neural_cf", "two_tower", "caser", "gru4rec", "sasrec", "bert4rec")},
    "factorization_machine": {"epochs": 2},
    "fusion": {"epochs": 2, "members": 1},
    "student": {"epochs": 2, "lists": 20_000, "teacher": {"epochs": 1, "members": 1}},
}
"""Defaults of item rankers that differ on campaigns. Their own are meant for users with a dozen events. A year of
baskets has hundreds, so one pass sees as many targets as tens of passes there. A campaign is a mean over hundreds of
items, which needs less precision. And a pipeline fits three times, once a boundary."""
SEARCHED_WHOLE = ("rules",)
"""Item rankers whose own hyperparameters `tune` searches on campaigns too. Those of all others are searched on
sequences, which judge an item ranker by itself. Chosen by hand: `rules` fits in seconds."""


class NextItemAdapterConfig(Hyperparameters):
    """Hyperparameters of the adapter, chosen by hand, as are the search ranges.

    A ranker's `Config` adds those of its item ranker.
    """

    campaign_min_lines: Annotated[int, Range(10, 100, log=True)] = Field(
        20, ge=0, description="Fewest purchase lines of an item that is ranked. 0: all items are ranked, new ones too."
    )
    campaign_events: Annotated[int, Range(50, 1000, log=True)] = Field(
        200, ge=1, description="Latest purchase lines of a user that the item ranker reads."
    )
    campaign_choose: bool = Field(
        False,
        description="Fit twice: first without each user's last line, which chooses for example when to stop.",
    )
    campaign_strength: Annotated[float, Range(1e-3, 10.0, log=True)] = Field(
        0.1, gt=0, description="Inverse of the weight of the regression's L2 penalty."
    )
    campaign_clip: float = Field(
        4.0, gt=0, description="Standard deviations at which each standardised input is clipped."
    )
    campaign_prior_pairs: float = Field(
        PRIOR_PAIRS,
        ge=0,
        description="Pairs at the overall rate that join the counts of each campaign type (shrinkage).",
    )

    searches_items: ClassVar[bool] = False
    """Whether the item ranker's own hyperparameters are searched too (`SEARCHED_WHOLE`)."""

    @classmethod
    def search_space(cls) -> Space:
        """Search space of the adapter, with the item ranker's own where `searches_items`."""
        whole = super().search_space()
        own = whole if cls.searches_items else NextItemAdapterConfig.model_fields
        return {name: among for name, among in whole.items() if name in own}


class NextItemAdapter(Ranker[NextItemAdapterConfig]):
    """A next-item ranker, and a regression that reads its pooled scores. `adapted` makes one class an item ranker."""

    Config: ClassVar[type[NextItemAdapterConfig]] = NextItemAdapterConfig
    item_ranker: ClassVar[str]
    """Name of the next-item ranker."""
    calibration_fits: ClassVar[int] = 0

    def __init__(
        self,
        inputs: ItemInputs,
        rates: TypeRates,
        preprocessing: Preprocessing,
        base_V: NDArray[np.float32],
        weights_E: NDArray[np.float32],
        bias: float,
        config: NextItemAdapterConfig,
    ) -> None:
        self._inputs, self._rates, self._preprocessing = inputs, rates, preprocessing
        self._base_V, self._weights_E, self._bias, self._hyperparameters = base_V, weights_E, bias, config

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: NextItemAdapterConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Fit the item ranker on `corpus`, then the regression on the pairs. Raises as `Ranker.fit`."""
        known_N = known_redemptions(labels)
        vocabulary = ItemVocabulary.of(examples.catalogue, corpus.items_T, min_lines=config.campaign_min_lines)
        items = cls._fit_items(vocabulary, examples.catalogue, corpus, config, context)
        rates = type_rates(examples, labels, known_N, prior_pairs=config.campaign_prior_pairs)
        inputs = ItemInputs(items, vocabulary, most_events=config.campaign_events)
        pooled_NX, base_V = inputs.pooled(examples)
        inputs_NJ = inputs.inputs(examples, pooled_NX, base_V, rates)[known_N]
        preprocessing = Preprocessing.fit(inputs_NJ, clip=config.campaign_clip)
        weights_E, bias = fit_logistic(
            preprocessing(inputs_NJ), labels.redeemed_N[known_N], strength=config.campaign_strength
        )
        return cls(inputs, rates, preprocessing, base_V, weights_E, bias, config)

    @classmethod
    def _fit_items(
        cls,
        vocabulary: ItemVocabulary,
        catalogue: Catalogue,
        corpus: Histories,
        config: NextItemAdapterConfig,
        context: FitContext,
    ) -> ItemRanker[Any]:
        fits = item_ranker_class(cls.item_ranker)
        own = fits.Config.model_validate({name: getattr(config, name) for name in fits.Config.model_fields})
        sequences = vocabulary.sequences(corpus, vocabulary.rows_R(catalogue), most_events=config.campaign_events)
        if config.campaign_choose:
            checkpoints = None if context.checkpoints is None else context.checkpoints / "choose"
            first = replace(context, checkpoints=checkpoints)
            trial = fits.fit(sequences.without_last(), held_out_U=sequences.last_U(), config=own, context=first)
            own = fits.Config.model_validate({**dict(own), **trial.chosen()})
        return fits.fit(sequences, held_out_U=None, config=own, context=context)

    def score(self, examples: Examples) -> Scores:
        """Predict the probability of participation of N pairs."""
        pooled_NX, _ = self._inputs.pooled(examples)
        z_NE = self._preprocessing(self._inputs.inputs(examples, pooled_NX, self._base_V, self._rates))
        log_odds_N = (z_NE * self._weights_E).sum(axis=1, dtype=np.float64) + self._bias
        return Scores(redeem_N=sigmoid(log_odds_N))

    def encoded(self, histories: Histories, catalogue: Catalogue) -> NDArray[np.float32] | None:
        """The item ranker's vectors of users, where it has an encoder of their order."""
        if not self.encodes_order:
            return None
        return self._inputs.items.user_vectors(self._inputs.sequences(histories, catalogue))

    def next_lines(self, histories: Histories, catalogue: Catalogue) -> NextLines | None:
        """The item ranker's scores of all items as probabilities."""
        if not self.encodes_order:
            return None
        weights_UV, _ = weights_and_strengths(
            self._inputs.items.score(self._inputs.sequences(histories, catalogue)),
            self._inputs.items.scores_are_log_odds,
        )
        return NextLines(axis="product", values=self._inputs.vocabulary.items.ids, p_UV=weights_UV[:, 1:])

    def contributions(self, examples: Examples) -> None:
        """Return None, because the inputs are the item ranker's scores, not features of the portrait."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The item ranker's tensors, its vocabulary, and the regression."""
        return {
            **self._preprocessing.tensors(),
            **self._inputs.vocabulary.tensors(),
            **{f"items.{name}": value for name, value in self._inputs.items.tensors().items()},
            "base_V": self._base_V,
            "weights_E": self._weights_E,
            "bias": np.array([self._bias]),
            "rates_K": self._rates.rates_K,
            "overall": np.array([self._rates.overall]),
        }

    def config(self) -> dict[str, Any]:
        """Hyperparameters, the item ranker's configuration, items and campaign types by name."""
        vocabulary = self._inputs.vocabulary.items
        return {
            "hyper": self._hyperparameters.model_dump(mode="json", include=set(self._hyperparameters.user_fields())),
            "items": self._inputs.items.config(),
            "num_attributes": vocabulary.num_attributes,
            "vocabulary": {"item": list(vocabulary.ids), "campaign_type": list(self._rates.types)},
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker from `tensors()` and `config()`.

        Raises:
            BundleError: Vocabulary and item ranker come from different fits.
        """
        prefix = "items."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        items = item_ranker_class(cls.item_ranker).restore(own, config["items"])
        ids = config["vocabulary"]["item"]
        vocabulary = ItemVocabulary.restore(tensors, ids, int(config["num_attributes"]))
        _require_same_items(items, vocabulary)
        hyperparameters = cls.Config.model_validate(config["hyper"])
        return cls(
            ItemInputs(items, vocabulary, most_events=hyperparameters.campaign_events),
            TypeRates(config["vocabulary"]["campaign_type"], tensors["rates_K"], float(tensors["overall"][0])),
            Preprocessing.restore(tensors, clip=hyperparameters.campaign_clip),
            tensors["base_V"],
            tensors["weights_E"],
            float(tensors["bias"][0]),
            hyperparameters,
        )


def _require_same_items(items: ItemRanker[Any], vocabulary: ItemVocabulary) -> None:
    """Refuse an item ranker of other items than the vocabulary's, by asking it about a user without purchases.

    Raises:
        BundleError: Their numbers of items differ.
    """
    none = np.zeros(0, dtype=np.float32)
    empty = Histories(np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int64), none.astype(np.int32), none, none)
    items.score(vocabulary.sequences(empty, np.zeros(1, dtype=np.int32), most_events=1))


@cache
def adapted(name: str) -> type[NextItemAdapter]:
    """Make the class of the campaign ranker around the next-item ranker `name`, with a matching `Config`."""
    own = {
        "name": name,
        "item_ranker": name,
        "trains_on_gpu": item_ranker_class(name).trains_on_gpu,
        "encodes_order": item_ranker_class(name).encodes_order,
        "Config": _config_of(name),
        "__module__": __name__,
        "__doc__": f"The next-item ranker `{name}` as a campaign ranker.",
    }
    return type(f"NextItemAdapter_{name}", (NextItemAdapter,), own)


def _config_of(name: str) -> type[NextItemAdapterConfig]:
    """Join the hyperparameters of the next-item ranker `name` and of the adapter, with the defaults of `SHORTER`."""
    items = item_ranker_class(name).Config
    shorter: dict[str, Any] = {}
    for key, default in SHORTER.get(name, {}).items():
        field = items.model_fields[key]
        shorter[key] = (Annotated[field.annotation, *field.metadata, Field(description=field.description)], default)
    bases = (items, NextItemAdapterConfig)
    joined = cast(type[NextItemAdapterConfig], create_model(f"NextItemAdapterConfig_{name}", __base__=bases, **shorter))
    joined.searches_items = name in SEARCHED_WHOLE
    return joined
