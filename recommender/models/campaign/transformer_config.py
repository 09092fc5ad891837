"""Hyperparameters of the campaign transformer. Apart from its class, because its network and its fit read them too."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from recommender.engine.hyperparameters import Range
from recommender.models.campaign.logistic import LogisticConfig


class TransformerConfig(LogisticConfig):
    """Hyperparameters of `transformer`: those of its linear part, of its networks, of pretraining and of fine-tuning.

    What has a search range has the best of 8 trials as its default, rounded (reports/tuning/transformer.json). All
    others were chosen by hand, as were the ranges. `baskets` and `look_baskets` are
    what a user's row holds (`packed_history.MAX_BASKETS`, `look_baskets.MAX_LOOK_BASKETS`).
    """

    strength: Annotated[float, Range(1e-4, 0.1, log=True)] = Field(
        0.0028, gt=0, description="Inverse of the weight of the linear part's L2 penalty for participation."
    )
    clip: Annotated[float, Range(2.0, 8.0)] = Field(
        3.7, gt=0, description="Standard deviations at which each standardised input of the linear part is clipped."
    )
    width: int = Field(64, ge=1, description="Size of embeddings and states.")
    blocks: int = Field(2, ge=1, description="Attention blocks of the encoder.")
    heads: int = Field(2, ge=1, description="Attention heads of a block. Divides `width`.")
    baskets: int = Field(64, ge=1, description="Latest baskets of a user that the encoder reads.")
    look_baskets: int = Field(
        32, ge=0, description="Latest days with looks that the encoder reads, if the shop has looks. 0: none."
    )
    hidden: int = Field(32, ge=1, description="Hidden units of each network of the tower.")
    members: int = Field(3, ge=1, description="Networks of the tower. The tower adds their mean.")
    min_lines: int = Field(
        5,
        ge=0,
        description="Fewest purchase lines of a category, brand or other taxonomy value with its own embedding.",
    )
    min_product_lines: int = Field(50, ge=0, description="Fewest purchase lines of a product with its own embedding.")
    pretrain_epochs: Annotated[int, Range(1, 6)] = Field(
        2, ge=0, description="Passes over all purchase histories to pretrain the encoder."
    )
    pretrain_min_steps: int = Field(
        300, ge=0, description="Fewest steps of pretraining, so that the encoder also learns in a small shop."
    )
    continue_epochs: int = Field(
        1, ge=0, description="Passes of pretraining if the fit starts from the one at an earlier boundary."
    )
    pretrain_rate: Annotated[float, Range(5e-4, 5e-3, log=True)] = Field(
        2e-3, gt=0, description="Highest learning rate of pretraining."
    )
    pretrain_batch: int = Field(32, ge=1, description="Purchase histories in a batch of pretraining.")
    pretrain_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of the encoder's values set to zero in training."
    )
    tune_epochs: Annotated[int, Range(0, 3)] = Field(
        1,
        ge=0,
        description="Most passes of fine-tuning. The latest campaigns of the training pairs choose their number.",
    )
    tune_rate: Annotated[float, Range(5e-5, 2e-3, log=True)] = Field(
        9e-4, gt=0, description="Highest learning rate of fine-tuning."
    )
    tune_batch: int = Field(256, ge=1, description="Pairs in a batch of fine-tuning.")
    tune_dropout: float = Field(0.3, ge=0, lt=1, description="Share of the tower's values set to zero in training.")
    tune_weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW in fine-tuning.")
    money_weight: float = Field(
        0.05, ge=0, description="Weight of spend and excess in the loss of fine-tuning. Participation has weight 1."
    )
    held_out: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the training pairs, from the latest campaigns, used to choose the number of passes.",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width (got width {self.width}, heads {self.heads})")
        return self
