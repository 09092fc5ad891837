"""Check that pairs have the features that a ranker was trained on."""

from recommender.errors import BundleError
from recommender.matching.examples import Examples

MAX_NAMED = 5
"""Features named in a message, of each kind. Enough to recognise what differs."""


def require_features(trained_on: tuple[str, ...], examples: Examples) -> None:
    """Refuse pairs whose features differ from those of the training in name or order.

    Raises:
        BundleError: Names the first few features that differ.
    """
    given = examples.feature_names
    if given == trained_on:
        return
    missing = sorted(set(trained_on) - set(given))[:MAX_NAMED]
    unknown = sorted(set(given) - set(trained_on))[:MAX_NAMED]
    difference = (
        f"missing {missing or 'none'}, unknown {unknown or 'none'}"
        if missing or unknown
        else "the same names in another order"
    )
    raise BundleError(
        f"the pairs have other features than the ranker was trained on: {difference}. "
        "Build features and ranker with the same code."
    )
