"""The flagship: transformers, rules and other experts, multiplied with weights that depend on the user.

Files: `config` (hyperparameters), `fusion` (the ranker), `experts` (what is multiplied), `habit` and `trend` (experts
that exist only here), `gate` (the weights), `gate_fit` and `candidates` (how the weights are fitted).
"""

from recommender.models.next_item.fusion.config import MEMBER_FIELDS, FusionConfig
from recommender.models.next_item.fusion.fusion import Fusion

__all__ = ["MEMBER_FIELDS", "Fusion", "FusionConfig"]
