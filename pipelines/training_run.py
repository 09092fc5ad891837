"""One run of the training pipeline on this machine."""

from rich.console import Console

from pipelines.compile import compile_local, run_arguments
from pipelines.local import LocalRun, new_run_id, run_pipeline
from pipelines.memory import MemoryWatch
from pipelines.preflight import check_before_run
from recommender.datasets.identity import source_identity
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
    identity = source_identity(settings.source)
    check_before_run(settings)
    if settings.training.device != "cpu":
        from recommender.engine.context import FitContext
        from recommender.engine.loop import device_of

        device_of(FitContext(device=settings.training.device))
    home, run_id = Home.of(settings), new_run_id()
    compile_local(settings, home.run(run_id).specification, identified_source=True, run=run_id)
    arguments = run_arguments(settings, identity)
    return run_pipeline(run_id, arguments, home=home, console=console, memory=memory, caching=caching)
