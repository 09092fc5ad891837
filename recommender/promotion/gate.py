"""The gate: decides on an evaluation and records the verdict in the registry's history."""

from pathlib import Path

from recommender.errors import RegistryError
from recommender.evaluation.document import Evaluation
from recommender.evaluation.judgement import read_judgement
from recommender.evaluation.ledger import attempts
from recommender.evaluation.verdict import Verdict, decide
from recommender.registry import Registry
from recommender.settings import Settings


def judge(evaluation: Path, *, settings: Settings, challenger: str = "") -> Verdict:
    """Decide on an evaluation by the rules of the settings' judgement file, and record the verdict in the registry.

    The registry is locked meanwhile, so that two gates at once cannot make the same attempt on a gate period.

    Args:
        evaluation: folder of the evaluation.
        settings: of the run.
        challenger: version that the evaluation must be about; by default any.

    Raises:
        CorruptFileError: the evaluation is damaged.
        SettingsError: the judgement file is not valid, or not the one that the evaluation was made under.
        RegistryError: the evaluation is about another challenger, or the registry does not have it.
    """
    document = Evaluation.read(evaluation)
    version = document.candidates[document.challenger].version
    if challenger and challenger != version:
        raise RegistryError(f"{evaluation}: must be about {challenger} (got {version}); evaluate again")
    registry, rules = Registry(settings.home), read_judgement(settings.judgement)
    with registry.recording(version) as record:
        verdict = decide(
            document,
            rules,
            earlier=registry.settled(version),
            attempts=attempts(registry.history(), document.gate.starts, document.gate.ends),
        )
        record(verdict.model_dump(mode="json"))
    return verdict
