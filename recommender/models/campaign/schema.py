"""The features that a ranker was trained on, held against those it is given."""

from recommender.errors import BundleError
from recommender.matching.examples import Examples


def require_features(trained_on: tuple[str, ...], examples: Examples) -> None:
    """Refuse pairs whose features are not, name by name and in order, those of the training.

    Raises:
        BundleError: naming the first few that differ.
    """
    given = examples.feature_names
    if given == trained_on:
        return
    missing = sorted(set(trained_on) - set(given))[:5]
    extra = sorted(set(given) - set(trained_on))[:5]
    raise BundleError(
        f"the pairs have other features than the ranker was trained on: missing {missing or 'none'}, unknown "
        f"{extra or 'none'}{'' if missing or extra else ', the same names in another order'}. "
        "Build features and ranker with the same code."
    )
