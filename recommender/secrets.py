"""Secrets: never in settings, parameters, artifacts, images or manifests.

A secret is a file in the folder that `RECOMMENDER_SECRETS` names (a mounted Kubernetes Secret) or, on a laptop, the
environment variable `RECOMMENDER_<NAME>`. Secrets are read where they are used and are never logged.
"""

import os
from pathlib import Path

from recommender.errors import SettingsError

FOLDER_VARIABLE = "RECOMMENDER_SECRETS"


def secret(name: str) -> str | None:
    """The secret `name`, such as token, without white space around it. None when it is not configured.

    Raises:
        SettingsError: the secret's file is empty or cannot be read. An empty token must not mean "no token".
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and (file := Path(folder) / name).exists():
        try:
            value = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file}: the secret cannot be read ({error})") from None
        if not value:
            raise SettingsError(f"{file}: the secret is empty; fill the file or remove it")
        return value
    variable = f"RECOMMENDER_{name.upper()}"
    if variable not in os.environ:
        return None
    value = os.environ[variable].strip()
    if not value:
        raise SettingsError(f"{variable} is set but empty; fill it or unset it")
    return value
