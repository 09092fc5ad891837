"""Registers the trained candidates of a run and chooses the champion that the challenger is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.registry import Registry
from recommender.registry.candidates import features


@dataclass(frozen=True)
class Entry:
    """Version ids of one run. `others` are baselines that are neither champion nor challenger."""

    champion: str
    challenger: str
    others: tuple[str, ...]


def enter(registry: Registry, *, baselines: Sequence[Path], challenger: Path) -> Entry:
    """Add the trained candidates of a run to the registry. If there is no champion yet, the last baseline becomes it.

    A champion whose features the run no longer has (another release of the code, a column that vanished) can neither be
    evaluated nor serve. It is replaced by the run's baseline of the same ranker, or by the last baseline. Features that
    it does not know yet (a new type of campaign) do not matter: it scores without them.

    Raises:
        CorruptFileError: a candidate's bundle is damaged.
        RegistryError: a candidate's lineage is incomplete.
    """
    baseline_versions = [registry.add(baseline) for baseline in baselines]
    challenger_version = registry.add(challenger)
    champion = registry.champion()
    if champion is None:
        champion = baseline_versions[-1]
        registry.promote(champion, reason="first champion: the last baseline serves until a challenger is better")
    elif not _has_features_of(registry, champion, challenger_version):
        retired, champion = champion, _replacement(registry, champion, baseline_versions)
        registry.promote(champion, reason=f"replaces {retired}, which was trained on features that no longer exist")
    others = tuple(
        version for version in dict.fromkeys(baseline_versions) if version not in (champion, challenger_version)
    )
    return Entry(champion, challenger_version, others)


def _has_features_of(registry: Registry, champion: str, challenger: str) -> bool:
    """Whether the run has all features of the champion. A challenger that reads none does not tell which it has."""
    of_champion, of_run = (set(features(registry.path(version))) for version in (champion, challenger))
    return not of_run or of_champion <= of_run


def _replacement(registry: Registry, champion: str, baselines: Sequence[str]) -> str:
    ranker = registry.lineage(champion)["ranker"]
    same = [version for version in baselines if registry.lineage(version)["ranker"] == ranker]
    return (same or list(baselines))[-1]
