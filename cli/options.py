"""Options that several verbs share, and the settings that they stand for."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recommender.errors import SettingsError
from recommender.settings import FILE_VARIABLE, PREFIX, Settings, TimeSettings, load_settings
from recommender.storage.home import Home
from recommender.storage.manifest import digest

DEFAULT_FILE = "recommender.toml"
LONGEST_STEM = 180
"""Bytes of a mapping's name in the name of its home, which leaves room below the file system's 255."""


class Now(StrEnum):
    """What counts as "now" for an endpoint that is started by hand."""

    CLOCK = "clock"
    FEATURES = "features"


SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        "-s",
        help="Settings file (TOML). Default: what RECOMMENDER_SETTINGS names, else recommender.toml, if it exists.",
    ),
]
ClusterSettingsFile = Annotated[
    Path | None, typer.Option("--settings", "-s", help="Settings file (TOML) of the cluster.")
]
DataFile = Annotated[
    Path | None,
    typer.Option("--data", help="Your own data: a mapping file, as `recommender draft-mapping` writes it."),
]
Url = Annotated[str, typer.Option("--url", help="The gateway's address. Default: the one in the settings.")]
AsOf = Annotated[str | None, typer.Option(help='The moment that counts as "now": 2017-12-31, or 2017-12-31T18:00.')]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run every step again, even if its inputs are unchanged.")]


def as_of_from(settings: Settings, file: Path | None, as_of: str | None) -> str:
    """Which option, key or rule says what counts as "now", for people who wonder where a moment comes from."""
    if as_of is not None:
        return "--as-of"
    if settings.time.as_of is None:
        return "the newest event, as time.as_of is not set"
    if f"{PREFIX}TIME__AS_OF" in os.environ:
        return f"time.as_of, set by {PREFIX}TIME__AS_OF"
    return f"time.as_of of {file or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE}"


def settings_of(file: Path | None, data: Path | None = None, as_of: str | None = None) -> Settings:
    """Read the settings from the file, the environment and the options.

    Own data has its own home folder, `home`/own/<mapping>-<hash of its path>, and its own periods.

    Raises:
        SettingsError: The settings file, the environment or an option is wrong. Names the key and the value.
    """
    default = Path(DEFAULT_FILE)
    # A pod names its mounted settings in the environment. The image's own recommender.toml must not win over them.
    if file is None and FILE_VARIABLE not in os.environ and default.is_file():
        chosen = load_settings(default)
    else:
        chosen = load_settings(file)
    if data is not None:
        # A name has at most 255 bytes, and a Chinese character three of them.
        stem = os.fsencode(data.stem)[:LONGEST_STEM].decode(errors="ignore")
        # Six digits: one machine has a few mapping files of the same name.
        own = Home.of(chosen).own(f"{stem}-{digest(str(data.resolve()))[:6]}")
        chosen = chosen.updated(home=own.root, source={"dataset": "files", "mapping": str(data)})
        if file is None:
            chosen = chosen.updated(time=TimeSettings())
    if as_of is not None:
        try:
            chosen = chosen.updated(time={"as_of": as_of})
        except SettingsError:
            raise SettingsError(f"--as-of {as_of}: neither a date (2017-12-31) nor a time (2017-12-31T18:00)") from None
    return chosen
