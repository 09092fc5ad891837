"""Who meets whom: trained candidates enter the registry, and each run has a champion to be measured against from the first day."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.registry import Registry
from recommender.registry.candidates import features


@dataclass(frozen=True)
class Entry:
    """Version ids of one run's contest. `others`: baselines that are neither champion nor challenger."""

    champion: str
    challenger: str
    others: tuple[str, ...]


def enter(registry: Registry, *, baselines: Sequence[Path], challenger: Path) -> Entry:
    """Add the trained candidates to the registry; where there is no champion yet, the last baseline becomes it.

    A champion that was trained on other features than those of today (another release of the code, a new type of campaign) can
    neither be judged nor serve with them: the baseline of the same ranker, trained anew, takes its place, or the last baseline.

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
    elif not _fits(registry, champion, challenging):
        retired, champion = champion, _stand_in(registry, champion, entered)
        registry.promote(
            champion, reason=f"{retired} was trained on other features than today's; trained anew, this one stands in"
        )
    others = tuple(version for version in dict.fromkeys(entered) if version not in (champion, challenging))
    return Entry(champion, challenging, others)


def _fits(registry: Registry, champion: str, challenger: str) -> bool:
    trained, today = (features(registry.path(version)) for version in (champion, challenger))
    return not trained or not today or trained == today


def _stand_in(registry: Registry, champion: str, baselines: Sequence[str]) -> str:
    ranker = registry.lineage(champion)["ranker"]
    same = [version for version in baselines if registry.lineage(version)["ranker"] == ranker]
    return (same or list(baselines))[-1]
