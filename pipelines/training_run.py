"""One run of one of our pipelines on this machine."""

from rich.console import Console

from components.check_settings.parameters import defaults
from pipelines.compile import compile_local
from pipelines.local import LocalRun, new_run_id, run_pipeline
from pipelines.memory import MemoryWatch
from pipelines.named import TRAINING
from pipelines.parameters import read_specification
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
    return run_named(TRAINING, settings, console=console, memory=memory, caching=caching)


def run_named(
    pipeline: str,
    settings: Settings,
    *,
    console: Console,
    memory: MemoryWatch,
    caching: bool = True,
    run_id: str | None = None,
) -> LocalRun:
    """Run one of our pipelines here, with the settings' values as parameters.

    Args:
        pipeline: as people type it.
        settings: of the run.
        console: where the steps are shown.
        memory: measures the steps.
        caching: whether unchanged steps are taken from the cache.
        run_id: of `new_run_id`. None: a new one.

    Raises:
        StepFailed: a step failed. Holds the step's message.
        SettingsError: there is no such pipeline.
    """
    home, run_id = Home.of(settings), run_id or new_run_id()
    file = home.run(run_id).specification
    compile_local(settings, file, run=run_id, pipeline=pipeline)
    parameters = read_specification(file)["root"]["inputDefinitions"]["parameters"]
    arguments = {name: value for name, value in defaults(settings).items() if name in parameters}
    return run_pipeline(run_id, arguments, home=home, console=console, memory=memory, caching=caching)
