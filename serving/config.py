"""Settings of serving's processes: a parent writes them to a file, and its children read only that file.

In a pod there is no parent: every container reads the mounted settings file (RECOMMENDER_SETTINGS).
"""

import os
from pathlib import Path

from recommender.errors import SettingsError
from recommender.settings import Settings, load_settings, settings_from_json
from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text

VARIABLE = "RECOMMENDER_SETTINGS_JSON"


def absolute(settings: Settings) -> Settings:
    """The same settings with absolute paths, because a TorchServe worker starts in the folder of its archive."""
    state = ServingState.of(settings).root.resolve()
    home, judgement = settings.home.resolve(), settings.judgement and settings.judgement.resolve()
    return settings.updated(home=home, judgement=judgement, serving={"state": state})


def export(settings: Settings) -> dict[str, str]:
    """Write the settings for child processes, and return the environment variable that names the file."""
    file = ServingState.of(settings).settings_file
    write_text(file, settings.model_dump_json())
    return {VARIABLE: str(file)}


def of_environment() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: The file that the environment names cannot be read; names it.
    """
    file = os.environ.get(VARIABLE)
    if file is None:
        return absolute(load_settings())
    try:
        return settings_from_json(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{VARIABLE}={file}: not readable ({error})") from None


def log_file(settings: Settings, process: str) -> Path | None:
    """The rotated log file of a child of `recommender serve`, or None in a pod, which collects what is printed."""
    return ServingState.of(settings).log(process) if VARIABLE in os.environ else None
