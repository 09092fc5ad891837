"""Every next-item ranker as a ranker of campaigns: what it says of a campaign's items, pooled, in a small logistic regression.

1. The item ranker is fitted on all purchases before the boundary, items of enough lines only.
2. Its scores of a user become weights (softmax where they are log-odds, shares above the lowest score otherwise) and strengths
   (log-probabilities; folded standard scores otherwise). A campaign is the sum of its items' weights, that sum over what users have
   on average, its strongest item and its ten strongest.
3. These, the type's past rate, the campaign's size and how lately and often the user bought enter an L2-penalised logistic regression.

A campaign of unknown items is judged by the known items nearest in the taxonomy; one without any by the type's rate alone.

Shapes: N pairs · U users · V items, rows 1 … V · C campaigns · K campaign types · J inputs of the regression.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.item_vocabulary import ItemVocabulary
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.logistic import fit_logistic, sigmoid
from recommender.models.campaign.popularity import TypeRates, campaign_types
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.next_item import ITEM_RANKERS, ItemRanker, item_ranker_class

DEFAULTS: dict[str, Any] = {
    "campaign_min_lines": 20,
    "campaign_events": 200,
    "campaign_choose": False,
    "campaign_strength": 0.1,
    "campaign_clip": 4.0,
    "campaign_prior_pairs": 50.0,
}
"""campaign_min_lines: an item of fewer lines is not in the vocabulary (0: all are, cold ones too) · campaign_events: the last lines of a
user that are read · campaign_choose: first fit without each user's last line and let the item ranker choose by it · campaign_strength:
inverse of the regression's penalty · campaign_clip: standard deviations at which an input is cut · campaign_prior_pairs: shrinks a
type's rate.
All other dials are the item ranker's own."""
SHORTER: dict[str, dict[str, Any]] = {
    **{name: {"epochs": 1} for name in ("neural_cf", "two_tower", "caser", "gru4rec", "sasrec", "bert4rec")},
    "factorization_machine": {"epochs": 2},
    "fusion": {"epochs": 2, "members": 1},
    "student": {"epochs": 2, "lists": 20_000, "teacher": {"epochs": 1, "members": 1}},
}
"""Where the item ranker's defaults are meant for users with a dozen events. A year of baskets has hundreds a user, so that one epoch sees as
many targets as tens there; a campaign is a mean over hundreds of items; and a pipeline fits at three boundaries."""
INPUTS = ("mass", "best", "strongest_ten", "lift", "usual_mass", "type_rate", "items", "recency", "baskets", "lines")
POOLED = 3
STRONGEST = 10
CELLS_AT_ONCE = 4_000_000
SMALLEST = 1e-9


class CampaignItems(Ranker):
    """A next-item ranker and the regression that reads it. `item_ranker` names the former; classes are made by `__getattr__`."""

    item_ranker: ClassVar[str]

    def __init__(
        self,
        items: ItemRanker[Any],
        vocabulary: ItemVocabulary,
        rates: TypeRates,
        preprocessing: Preprocessing,
        base_V: NDArray[np.float32],
        weights_E: NDArray[np.float32],
        bias: float,
        hyper: Mapping[str, Any],
    ) -> None:
        self.items, self.vocabulary, self._rates, self._preprocessing = items, vocabulary, rates, preprocessing
        self.base_V, self._weights_E, self._bias, self._hyper = base_V, weights_E, bias, dict(hyper)
        self._catalogue = ""
        self._rows_R = np.zeros(0, dtype=np.int32)
        self._campaigns: dict[int, NDArray[np.int64]] = {}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        own = item_ranker_class(cls.item_ranker).Config
        dumped = own().model_dump(mode="json", include=set(own.user_fields()))
        return {**dumped, **SHORTER.get(cls.item_ranker, {}), **DEFAULTS}

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
        known_N = known_redemptions(labels)
        hyper = {**cls.defaults(), **config}
        vocabulary = ItemVocabulary.of(examples.catalogue, corpus.items_T, min_lines=int(hyper["campaign_min_lines"]))
        items = cls._fit_items(vocabulary, examples.catalogue, corpus, hyper, context)
        types = [kind for kind, known in zip(campaign_types(examples), known_N.tolist(), strict=True) if known]
        rates = TypeRates.count(types, labels.redeemed_N[known_N], prior_pairs=float(hyper["campaign_prior_pairs"]))
        num_inputs, size = len(INPUTS), vocabulary.items.num + 1
        blank = Preprocessing.fit(np.zeros((1, num_inputs), dtype=np.float32), clip=float(hyper["campaign_clip"]))
        nothing_E = np.zeros(num_inputs, dtype=np.float32)
        ranker = cls(items, vocabulary, rates, blank, np.zeros(size, dtype=np.float32), nothing_E, 0.0, hyper)
        pooled_NX, ranker.base_V = ranker._pooled(examples)
        inputs_NJ = ranker._inputs(examples, pooled_NX)
        ranker._preprocessing = Preprocessing.fit(inputs_NJ[known_N], clip=float(hyper["campaign_clip"]))
        ranker._weights_E, ranker._bias = fit_logistic(
            ranker._preprocessing(inputs_NJ[known_N]),
            labels.redeemed_N[known_N],
            strength=float(hyper["campaign_strength"]),
        )
        return ranker

    @classmethod
    def _fit_items(
        cls,
        vocabulary: ItemVocabulary,
        catalogue: Catalogue,
        corpus: Histories,
        hyper: Mapping[str, Any],
        context: FitContext,
    ) -> ItemRanker[Any]:
        fits = item_ranker_class(cls.item_ranker)
        given = {name: hyper[name] for name in fits.Config.user_fields()}
        config = fits.Config.parse(given, owner=cls.item_ranker)
        rows_R = vocabulary.rows_R(catalogue)
        sequences = vocabulary.sequences(corpus, rows_R, most_events=int(hyper["campaign_events"]))
        if hyper["campaign_choose"]:
            first = replace(
                context, checkpoints=None if context.checkpoints is None else context.checkpoints / "choose"
            )
            trial = fits.fit(sequences.without_last(), held_out_U=sequences.last_U(), config=config, context=first)
            config = fits.Config.parse({**given, **trial.chosen()}, owner=cls.item_ranker)
        return fits.fit(sequences, held_out_U=None, config=config, context=context)

    def score(self, examples: Examples) -> Scores:
        inputs_NJ = self._inputs(examples, self._pooled(examples)[0])
        z_NE = self._preprocessing(inputs_NJ)
        log_odds_N = (z_NE * self._weights_E).sum(axis=1, dtype=np.float64) + self._bias
        return Scores(redeem_N=sigmoid(log_odds_N))

    def contributions(self, examples: Examples) -> None:
        """None: the inputs are the item ranker's answers, not features of the portrait."""
        return

    def _pooled(self, examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log of the mass, strongest item and mean of the ten strongest of each pair, [N, 3], NaN where the campaign has no known
        item; and the mean weights of all users, [V + 1]."""
        self._lay_out(examples.catalogue)
        sequences = self.vocabulary.sequences(
            examples.histories, self._rows_R, most_events=int(self._hyper["campaign_events"])
        )
        rows, columns_N = np.unique(examples.campaigns_N, return_inverse=True)
        contents = [self._content(examples.catalogue, row) for row in rows.tolist()]
        pooled_NX = np.full((len(examples.users_N), POOLED), np.nan, dtype=np.float32)
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

    def _inputs(self, examples: Examples, pooled_NX: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the regression reads, float32 [N, J]."""
        histories, catalogue = examples.histories, examples.catalogue
        rows, columns_N = np.unique(examples.campaigns_N, return_inverse=True)
        contents = [self._content(catalogue, row) for row in rows.tolist()]
        usual_N = np.log([self.base_V[content].sum() + SMALLEST if len(content) else np.nan for content in contents])
        usual_N, sizes_N = usual_N[columns_N], np.log1p([len(content) for content in contents])[columns_N]
        rate_N = self._rates(examples)
        baskets_U = np.diff(histories.basket_offsets)
        lines_U = (
            histories.line_offsets[histories.basket_offsets[1:]] - histories.line_offsets[histories.basket_offsets[:-1]]
        )
        recency_U = np.full(len(baskets_U), np.nan)
        some_U = baskets_U > 0
        recency_U[some_U] = histories.age_days_B[histories.basket_offsets[1:][some_U] - 1]
        about_user = np.stack([recency_U, baskets_U, lines_U], axis=1)[examples.users_N]
        about_campaign = np.stack([pooled_NX[:, 0] - usual_N, usual_N, np.log(rate_N / (1 - rate_N)), sizes_N], axis=1)
        return np.concatenate([pooled_NX, about_campaign, about_user], axis=1).astype(np.float32)

    def _lay_out(self, catalogue: Catalogue) -> None:
        if self._catalogue != catalogue.version:
            self._rows_R = self.vocabulary.rows_R(catalogue)
            self._catalogue, self._campaigns = catalogue.version, {}

    def _content(self, catalogue: Catalogue, row: int) -> NDArray[np.int64]:
        found = self._campaigns.get(row)
        if found is None:
            found = self._campaigns[row] = self.vocabulary.campaign(catalogue, row, self._rows_R)
        return found

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {
            **self._preprocessing.tensors(),
            **self.vocabulary.tensors(),
            **{f"items.{name}": value for name, value in self.items.tensors().items()},
            "base_V": self.base_V,
            "weights_E": self._weights_E,
            "bias": np.array([self._bias]),
            "rates_K": self._rates.rates_K,
            "overall": np.array([self._rates.overall]),
        }

    def config(self) -> dict[str, Any]:
        return {
            "hyper": self._hyper,
            "clip": self._preprocessing.clip,
            "items": self.items.config(),
            "num_attributes": self.vocabulary.items.num_attributes,
            "vocabulary": {"item": list(self.vocabulary.items.ids), "campaign_type": list(self._rates.types)},
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        prefix = "items."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        items = item_ranker_class(cls.item_ranker).restore(own, config["items"])
        ids = config["vocabulary"]["item"]
        vocabulary = ItemVocabulary.restore(tensors, ids, int(config["num_attributes"]))
        _require_same_items(cls.item_ranker, items, vocabulary)
        rates = TypeRates(config["vocabulary"]["campaign_type"], tensors["rates_K"], float(tensors["overall"][0]))
        preprocessing = Preprocessing.restore(tensors, clip=float(config["clip"]))
        bias = float(tensors["bias"][0])
        return cls(
            items, vocabulary, rates, preprocessing, tensors["base_V"], tensors["weights_E"], bias, config["hyper"]
        )


@cache
def __getattr__(name: str) -> type[CampaignItems]:
    """The campaign ranker around the next-item ranker `name`: a class of its own, for a bundle names the class it is of."""
    if name not in ITEM_RANKERS:
        raise AttributeError(f"no next-item ranker is called {name!r}")
    own = {"name": name, "item_ranker": name, "trains_on_gpu": item_ranker_class(name).trains_on_gpu}
    return type(f"CampaignItems_{name}", (CampaignItems,), {**own, "__module__": __name__})


def weights_and_strengths(
    scores_UV: NDArray[np.float32], log_odds: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores -> weights that sum to 1 over the items, and strengths that keep their order without their tail: [U, V + 1] each."""
    sayable_UV = np.isfinite(scores_UV)
    sayable_UV[:, 0] = False
    counts_U1 = np.maximum(sayable_UV.sum(axis=1, keepdims=True), 1)
    if log_odds:
        high_U1 = np.where(sayable_UV, scores_UV, -np.inf).max(axis=1, keepdims=True)
        high_U1 = np.where(np.isfinite(high_U1), high_U1, 0)
        raw_UV = np.where(sayable_UV, np.exp(np.where(sayable_UV, scores_UV - high_U1, 0)), 0)
    else:
        low_U1 = np.where(sayable_UV, scores_UV, np.inf).min(axis=1, keepdims=True)
        raw_UV = np.where(sayable_UV, scores_UV - np.where(np.isfinite(low_U1), low_U1, 0), 0)
    sums_U1 = raw_UV.sum(axis=1, keepdims=True, dtype=np.float64)
    weights_UV = np.where(sums_U1 > 0, raw_UV / np.where(sums_U1 > 0, sums_U1, 1), sayable_UV / counts_U1)
    if log_odds:
        strengths_UV = np.log(weights_UV + SMALLEST)
    else:
        # with the lowest at 0 and a sum of 1, the standard score is (weight - 1 / count) / deviation
        off_UV = np.where(sayable_UV, weights_UV - 1 / counts_U1, 0)
        scale_U1 = np.sqrt((off_UV**2).sum(axis=1, keepdims=True) / counts_U1)
        z_UV = off_UV / np.where(scale_U1 > 1e-12, scale_U1, 1)
        strengths_UV = np.sign(z_UV) * np.log1p(np.abs(z_UV))
    return weights_UV.astype(np.float32), strengths_UV.astype(np.float32)


def pool(weights_nc: NDArray[np.float32], strengths_nc: NDArray[np.float32]) -> NDArray[np.float32]:
    """n pairs' weights and strengths over the c items of one campaign -> log mass, strongest, mean of the ten strongest: [n, 3]."""
    mass_n = np.log(weights_nc.sum(axis=1, dtype=np.float64) + SMALLEST)
    most = min(STRONGEST, strengths_nc.shape[1])
    strongest = np.sort(np.partition(strengths_nc, -most, axis=1)[:, -most:], axis=1)
    return np.stack([mass_n, strongest[:, -1], strongest.mean(axis=1)], axis=1).astype(np.float32)


def _require_same_items(name: str, items: ItemRanker[Any], vocabulary: ItemVocabulary) -> None:
    """Refuse a ranker of other items than the vocabulary's, by asking it about nobody.

    Raises:
        BundleError: their numbers differ.
    """
    empty = np.zeros(0, dtype=np.float32)
    offsets = np.zeros(2, dtype=np.int64)
    nobody = Histories(offsets, offsets[:1], empty.astype(np.int32), empty, empty)
    asked = vocabulary.sequences(nobody, np.zeros(1, dtype=np.int32), most_events=1)
    items.score(asked)
