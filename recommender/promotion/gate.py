"""The gate: judges an evaluation and keeps the verdict in the registry's history."""

from pathlib import Path

from recommender.errors import RegistryError
from recommender.evaluation.document import Evaluation
from recommender.evaluation.judgement import read_judgement
from recommender.evaluation.verdict import Verdict, decide
from recommender.registry import Registry
from recommender.settings import Settings


def judge(evaluation: Path, *, settings: Settings, challenger: str = "") -> Verdict:
    """Judge an evaluation's folder by the settings' judgement file and keep the verdict in the registry's history.

    `challenger`: the version that the evaluation must be about.

    Raises:
        CorruptFileError: the evaluation is damaged.
        SettingsError: the judgement file is none, or another one than the evaluation's.
        RegistryError: the evaluation is about another challenger, or the registry does not know it.
    """
    found = Evaluation.read(evaluation)
    version = found.candidates[found.challenger].version
    if challenger and challenger != version:
        raise RegistryError(f"{evaluation}: about {version}, not about {challenger}; evaluate again")
    registry = Registry(settings.home)
    verdict = decide(found, read_judgement(settings.judgement), earlier=registry.settled(version))
    registry.record_verdict(version, verdict.model_dump(mode="json"))
    return verdict
