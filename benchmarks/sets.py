"""The sets of events that next-item rankers are measured on, and what is known of their items."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.generated import fashions, reseller
from benchmarks.journey import journey
from benchmarks.ml_100k import ml_100k
from benchmarks.movielens import movielens_attributes
from recommender.datasets.interactions import read_interactions
from recommender.errors import SettingsError
from recommender.sequences import Sequences

SETS = {"beauty": "amazon-beauty/Beauty.parquet", "ml-1m": "ml-1m/sequences.parquet"}
"""Sets in the data folder."""
ATTRIBUTES = {"beauty": "amazon-beauty/Beauty_attributes.parquet"}
PACKAGED: dict[str, Callable[[Path], tuple[Path, Path | None]]] = {
    "journey": journey,
    "ml-100k": ml_100k,
    "fashions": fashions,
    "reseller": reseller,
}
"""Sets that come from a package or are generated, so that they need no data folder."""


def as_judged(folder: Path, data: str) -> Sequences:
    """The set as rankers are judged on it.

    Beauty has its attributes, MovieLens-1M only the order of its events, Complete Journey attributes and times,
    MovieLens-100K and `fashions` times.

    Raises:
        SettingsError: No set has this name.
        SourceError: A file is missing.
    """
    if data in PACKAGED:
        with TemporaryDirectory() as place:
            return read_interactions(*PACKAGED[data](Path(place)))
    if data not in SETS:
        raise SettingsError(f"unknown set {data!r}; there are {', '.join((*SETS, *PACKAGED))}")
    return read_interactions(folder / SETS[data], folder / ATTRIBUTES[data] if data in ATTRIBUTES else None)


def with_content(folder: Path, data: str) -> Sequences:
    """The set with all that its folder knows of the items: Beauty's attributes, MovieLens-1M's genres and titles.

    Raises:
        SettingsError, SourceError: As `as_judged`.
    """
    if data != "ml-1m":
        return as_judged(folder, data)
    with TemporaryDirectory() as place:
        attributes = movielens_attributes(folder / "ml-1m", Path(place) / "attributes.parquet")
        return read_interactions(folder / SETS[data], attributes)
