"""Pipeline step: decide by the rules of the judgement file whether the challenger is promoted."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def gate(
    settings: str, challenger: str, evaluation: Input[Dataset], note: Output[Markdown], verdict: Output[Dataset]
) -> NamedTuple("Judged", [("decision", str), ("reason", str)]):  # type: ignore[valid-type]
    """Decide PROMOTE or HOLD, with the reasons in words, and keep the verdict in the registry's history."""
    from pathlib import Path

    from recommender import logs
    from recommender.promotion.gate import judge
    from recommender.report.evaluation import verdict_markdown
    from recommender.settings import settings_from_json

    logs.configure(process="step:gate")
    judged = judge(Path(evaluation.path), settings=settings_from_json(settings), challenger=challenger)
    Path(note.path).write_text(verdict_markdown(judged), encoding="utf-8")
    Path(verdict.path).write_text(judged.model_dump_json(indent=1), encoding="utf-8")
    return judged.decision, judged.headline
