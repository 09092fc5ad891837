"""Pipeline step after PROMOTE: let the challenger serve a share of the users as canary."""

from kfp import dsl
from kfp.dsl import Markdown, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def deploy(settings: str, version: str, reason: str, note: Output[Markdown]) -> None:
    """Start the canary in the registry. Every serving replica follows it without losing a request."""
    from pathlib import Path

    from recommender import logs
    from recommender.registry import Registry
    from recommender.settings import settings_from_json

    logs.configure(process="step:deploy")
    chosen = settings_from_json(settings)
    share = chosen.serving.canary_share
    Registry(chosen.home).start_canary(version, share, verdict={"decision": "PROMOTE", "reason": reason})
    Path(note.path).write_text(f"**{version}** serves {share:.0%} of the users as canary. {reason}\n", encoding="utf-8")
