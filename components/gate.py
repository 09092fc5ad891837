"""Pipeline step: decide by the rules of the judgement file whether the challenger is promoted."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def gate(
    settings: str, challenger: str, evaluation: Input[Dataset], note: Output[Markdown], verdict: Output[Dataset]
) -> NamedTuple("Judged", [("Output", str), ("reason", str)]):  # type: ignore[valid-type]
    """Decide PROMOTE or HOLD, with the reasons in words, and keep the verdict in the registry's history.

    `Output` is the decision: kfp.local 2.17 finds a condition's value outside a branch only under that name.
    """
    from pathlib import Path

    from components.step import running
    from recommender.promotion.gate import judge
    from recommender.report.evaluation import verdict_markdown
    from recommender.settings import settings_from_json

    reads, writes = {"evaluation": evaluation.path, "challenger": challenger}, {"verdict": verdict.path}
    with running("gate", reads=reads, writes=writes) as wrote:
        judged = judge(Path(evaluation.path), settings=settings_from_json(settings), challenger=challenger)
        Path(note.path).write_text(verdict_markdown(judged), encoding="utf-8")
        Path(verdict.path).write_text(judged.model_dump_json(indent=1), encoding="utf-8")
        wrote.update(decision=judged.decision, challenger=judged.challenger, champion=judged.champion)
        verdict.metadata.update(wrote, data_hash=evaluation.metadata.get("data_hash", ""))
        return judged.decision, judged.headline
