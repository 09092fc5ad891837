"""Pipeline step: add the trained rankers to the registry. On the first run the last baseline becomes champion."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Input, Model

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def register(
    settings: str,
    baselines: Input[list[Model]],
    challenger: Input[Model],
) -> NamedTuple("Entered", [("champion", str), ("challenger", str), ("others", list[str])]):  # type: ignore[valid-type]
    """Add each candidate under its version id, a hash of data, configuration, ranker and code, and return the ids."""
    from pathlib import Path

    from components.step import running
    from recommender.promotion.contest import enter
    from recommender.registry import Registry
    from recommender.settings import settings_from_json

    candidates = [Path(model.path) for model in baselines]
    with running("register", reads={"baselines": candidates, "challenger": challenger.path}) as wrote:
        registry = Registry(settings_from_json(settings).home)
        entry = enter(registry, baselines=candidates, challenger=Path(challenger.path))
        wrote.update(registry=registry.folder, champion=entry.champion, challenger=entry.challenger)
        return entry.champion, entry.challenger, list(entry.others)
