"""Who meets whom: trained candidates enter the registry, and each run has a champion to be measured against from the first day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.candidates import lineage
from recommender.registry import Registry


@dataclass(frozen=True)
class Entry:
    """Version ids of one run's contest. `others`: baselines that are neither champion nor challenger."""

    champion: str
    challenger: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Contest:
    """What an evaluation compares: folders by the names that tables and pages show, and which two are judged."""

    candidates: Mapping[str, Path]
    challenger: str
    champion: str


def enter(registry: Registry, *, baselines: Sequence[Path], challenger: Path) -> Entry:
    """Add the trained candidates to the registry; where there is no champion yet, the last baseline becomes it.

    Raises:
        CorruptFileError: a candidate's bundle is damaged.
        RegistryError: a candidate's lineage does not identify it.
    """
    entered = [registry.add(baseline) for baseline in baselines]
    challenging = registry.add(challenger)
    champion = registry.champion()
    if champion is None:
        champion = entered[-1]
        registry.promote(champion, reason="the first champion: the strongest baseline stands until it is beaten")
    others = tuple(version for version in dict.fromkeys(entered) if version not in (champion, challenging))
    return Entry(champion, challenging, others)


def contest(registry: Registry, *, champion: str, challenger: str, others: Sequence[str]) -> Contest:
    """Name the versions of an entry by their rankers; a champion whose ranker's name is taken is called `<ranker> (champion)`.

    Raises:
        RegistryError: a version is not in the registry.
    """
    candidates: dict[str, Path] = {}
    names: dict[str, str] = {}
    for version in dict.fromkeys((challenger, *others, champion)):
        folder = registry.path(version)
        ranker = str(lineage(folder)["ranker"])
        names[version] = ranker if ranker not in candidates else f"{ranker} (champion)"
        candidates[names[version]] = folder
    return Contest(candidates, names[challenger], names[champion])
