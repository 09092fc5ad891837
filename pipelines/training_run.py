"""One run of the training pipeline on this machine."""

from rich.console import Console

from components.check_settings.parameters import defaults
from pipelines.compile import compile_local
from pipelines.local import LocalRun, new_run_id, run_pipeline
from pipelines.memory import MemoryWatch
from pipelines.preflight import check_before_run
from recommender.settings import Settings
from recommender.storage.home import Home


def run_training(settings: Settings, *, console: Console, memory: MemoryWatch, caching: bool = True) -> LocalRun:
    """Run the whole training pipeline here. Its steps publish the results below `home`/published.

    Raises:
        StepFailed: a step failed. Holds the step's message.
        SourceError: the source is missing.
        SettingsError: the settings cannot be run; names the key.
        DeviceError: this machine lacks the device in the settings.
    """
    check_before_run(settings)
    if settings.training.device != "cpu":
        from recommender.engine.context import FitContext
        from recommender.engine.loop import device_of

        device_of(FitContext(device=settings.training.device))
    home, run_id = Home.of(settings), new_run_id()
    compile_local(settings, home.run(run_id).specification, run=run_id)
    return run_pipeline(run_id, defaults(settings), home=home, console=console, memory=memory, caching=caching)
