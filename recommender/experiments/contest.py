"""Who meets whom: trained candidates enter the registry, and each run has a champion to be measured against from the first day."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.registry import Registry


@dataclass(frozen=True)
class Entry:
    """Version ids of one run's contest. `others`: baselines that are neither champion nor challenger."""

    champion: str
    challenger: str
    others: tuple[str, ...]


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
        registry.promote(champion, reason="the first champion: the last baseline stands until it is beaten")
    others = tuple(version for version in dict.fromkeys(entered) if version not in (champion, challenging))
    return Entry(champion, challenging, others)
