"""Settings of serving's own processes: the parent writes them to one file, its children read that file and nothing else.

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
    """The same settings with paths that hold in any working directory (a TorchServe worker starts in its archive)."""
    state = ServingState.of(settings).root.resolve()
    home, judgement = settings.home.resolve(), settings.judgement.resolve()
    return settings.updated(home=home, judgement=judgement, serving={"state": state})


def export(settings: Settings) -> dict[str, str]:
    """Write the settings for child processes; returns the variable that names the file."""
    file = ServingState.of(settings).settings_file
    write_text(file, settings.model_dump_json())
    return {VARIABLE: str(file)}


def of_environment() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: the file that the environment names cannot be read.
    """
    file = os.environ.get(VARIABLE)
    if file is None:
        return absolute(load_settings())
    try:
        return settings_from_json(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{VARIABLE}={file}: not readable ({error})") from None
