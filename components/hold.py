"""Pipeline step after HOLD: the champion stays, and a note in the run gives the reason."""

from kfp import dsl
from kfp.dsl import Markdown, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def hold(champion: str, challenger: str, reason: str, note: Output[Markdown]) -> None:
    """Write a note that names the champion that stays and the reason."""
    from pathlib import Path

    from components.step import running

    with running("hold", reads={"champion": champion, "challenger": challenger}, writes={"note": note.path}):
        text = f"**{champion}** stays champion; **{challenger}** does not serve. {reason}\n"
        Path(note.path).write_text(text, encoding="utf-8")
