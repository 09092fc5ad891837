"""Give a ranker the features that it was trained on, by name, also from pairs that have gained others since.

A new department or campaign type is a new feature. A ranker from before it does not know it and scores without it.

Shapes: N pairs · F features of the pairs · T features that the ranker was trained on.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recommender.errors import BundleError
from recommender.matching.examples import Examples

MAX_NAMED = 5
"""Features named in a message. Enough to recognise what differs."""


def as_trained(trained_on: tuple[str, ...], examples: Examples) -> Examples:
    """The same pairs with the features of the training, in its order.

    Raises:
        BundleError: The pairs lack some; names the first few.
    """
    if examples.feature_names == trained_on:
        return examples
    columns_T = _columns(trained_on, examples)
    return replace(examples, features_NF=examples.features_NF.take(columns_T, axis=1), feature_names=trained_on)


def of_examples(added_NT: NDArray[np.float32], trained_on: tuple[str, ...], examples: Examples) -> NDArray[np.float32]:
    """Contributions of the features of the training as those of the pairs' features, float32 [N, F].

    A feature that the ranker does not know adds nothing.
    """
    if examples.feature_names == trained_on:
        return added_NT
    added_NF = np.zeros((len(added_NT), len(examples.feature_names)), dtype=np.float32)
    added_NF[:, _columns(trained_on, examples)] = added_NT
    return added_NF


def _columns(trained_on: tuple[str, ...], examples: Examples) -> list[int]:
    place = {name: column for column, name in enumerate(examples.feature_names)}
    missing = [name for name in trained_on if name not in place]
    if missing:
        raise BundleError(
            f"the pairs lack features that the ranker was trained on: {', '.join(missing[:MAX_NAMED])}. "
            "Train the ranker again, or build the features with the code of its training."
        )
    return [place[name] for name in trained_on]
