"""Whether a ranker's dials can be: known, of the kind of their defaults, within the range that their names say."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from recommender.errors import SettingsError

LEAST = {
    **dict.fromkeys(("campaign_min_lines", "min_lines", "min_product_lines", "vertical", "user_width"), 0),
    **dict.fromkeys(("members", "min_steps"), 0),
    **dict.fromkeys(("pretrain_epochs", "pretrain_min_steps", "continue_epochs", "tune_epochs"), 0),
}
"""A whole number is at least 1, but for these."""
LEAST_OF = {
    **{(name, "length"): 2 for name in ("sasrec", "gru4rec", "fusion", "student")},
    ("bert4rec", "length"): 3,
}
"""Where a sequence is input and target at once (BERT4Rec's holds a mask, too)."""
ABOVE_ZERO = ("rate", "learning_rate", "pretrain_rate", "tune_rate", "strength", "mask", "budget_tflop", "temperature")
BELOW_ONE = ("dropout", "item_dropout", "pretrain_dropout", "tune_dropout", "smoothing")
SHARES = ("mask", "last", "new_users", "softness", "held_out", "feature_share", "pair_share")
CHOICES = {"precision": ("auto", "fp32", "bf16"), "cell": ("gru", "lstm"), "softmax": ("full", "in-batch")}
UNSET: dict[str, Any] = {
    "dropout": 0.0,
    "rate": 0.0,
    "habit": False,
    **dict.fromkeys(("tokens", "epochs", "judge_every", "min_steps"), 0),
}
"""What a dial is like whose default is None: taken from the data."""


def check_dials(name: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Nothing, where the ranker `name` with these defaults can have the dials `given`; a student's teacher is a flagship.

    Raises:
        SettingsError: a dial is none of the ranker's (the message lists those there are), or its value cannot be.
    """
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        there = ", ".join(sorted(defaults))
        raise SettingsError(f"{name} has no dial {', '.join(map(repr, unknown))}; it has {there}")
    for dial, value in given.items():
        if value != defaults[dial] and (wrong := _wrong(name, dial, defaults[dial], value)):
            raise SettingsError(f"{name}: {dial} is {value!r}{wrong}")
    width, heads = (given.get(dial, defaults.get(dial, 1)) for dial in ("width", "heads"))
    if width % heads:
        raise SettingsError(f"{name}: width {width} cannot be shared by {heads} heads")
    if isinstance(given.get("teacher"), Mapping):
        from recommender.models.next_item.fusion import FusionConfig

        FusionConfig.parse(given["teacher"], owner="fusion")


def _wrong(name: str, dial: str, default: Any, value: Any) -> str:
    if dial == "text":
        return "" if isinstance(value, (bool, str)) else "; it is true, false or the folder of an encoder"
    if dial == "text_cache" and isinstance(value, str) and value and Path(value).exists() and not Path(value).is_dir():
        return "; it is a folder, and this is a file"
    if dial == "hidden" and isinstance(default, list):
        whole = isinstance(value, list) and value and all(type(one) is int and one > 0 for one in value)
        return "" if whole else "; it is a list of whole numbers, each at least 1"
    if dial in CHOICES:
        return "" if value in CHOICES[dial] else f"; it is one of {', '.join(CHOICES[dial])}"
    kind = UNSET[dial] if default is None else default
    if isinstance(kind, bool):
        return "" if isinstance(value, bool) else "; it is true or false"
    if isinstance(kind, (int, float)):
        return _wrong_number(name, dial, isinstance(kind, int), value)
    if isinstance(kind, dict):
        return "" if isinstance(value, dict) else ", not a table of dials"
    return "" if isinstance(value, str) else ", not a text"


def _wrong_number(name: str, dial: str, whole: bool, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ", not a number"
    if not isfinite(value):
        return "; it is a finite number"
    if whole:
        least = LEAST_OF.get((name, dial), LEAST.get(dial, 1))
        return f"; it is at least {least}" if value < least else "" if value == int(value) else ", not a whole number"
    if value < 0 or (value == 0 and dial in ABOVE_ZERO):
        return "; it is above 0" if dial in ABOVE_ZERO else "; it is at least 0"
    if value >= 1 and dial in BELOW_ONE:
        return "; it is below 1"
    return "; it is at most 1" if value > 1 and dial in SHARES else ""
