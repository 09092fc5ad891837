"""Pipeline step after PROMOTE: let the challenger serve a share of the users as canary."""

from kfp import dsl
from kfp.dsl import Markdown, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def deploy(settings: str, version: str, reason: str, note: Output[Markdown]) -> None:
    """Start the canary in the registry. Every serving replica follows it without losing a request."""
    from pathlib import Path

    from components.step import running
    from recommender.registry import Registry
    from recommender.settings import settings_from_json

    with running("deploy", reads={"version": version}) as wrote:
        chosen = settings_from_json(settings)
        share = chosen.serving.canary_share
        Registry(chosen.home).start_canary(version, share, verdict={"decision": "PROMOTE", "reason": reason})
        text = f"**{version}** serves {share:.0%} of the users as canary. {reason}\n"
        Path(note.path).write_text(text, encoding="utf-8")
        wrote.update(canary=version, share=share)
