"""Pipeline step after monitoring: fail the run where a limit is broken."""

from kfp import dsl
from kfp.dsl import Dataset, Input

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def require_limits(report: Input[Dataset]) -> None:
    """Refuse a report in which a limit is broken, with each limit and its remedy in the log."""
    from pathlib import Path

    from components.step import running
    from recommender.monitoring.findings import require_limits as require

    with running("require_limits", reads={"report": report.path}) as wrote:
        wrote["findings"] = require(Path(report.path))
