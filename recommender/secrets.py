"""Secrets: never in settings, parameters, artifacts, images or manifests.

A secret is a file in the folder that `RECOMMENDER_SECRETS` names (a mounted Kubernetes Secret), or, on a laptop, the
environment variable `RECOMMENDER_<NAME>`. They are read where they are used and are never logged.
"""

import os
from pathlib import Path

from recommender.errors import SettingsError


def secret(name: str) -> str | None:
    """The secret `name` (`token`, `redis_password`), without surrounding white space; None when it is not configured.

    Raises:
        SettingsError: the secret's file is empty or cannot be read. An empty token must not mean "no token".
    """
    folder = os.environ.get("RECOMMENDER_SECRETS")
    if folder and (file := Path(folder) / name).exists():
        try:
            value = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file}: the secret cannot be read ({error})") from None
        if not value:
            raise SettingsError(f"{file}: the secret is empty; remove the file or fill it")
        return value
    variable = f"RECOMMENDER_{name.upper()}"
    if variable not in os.environ:
        return None
    value = os.environ[variable].strip()
    if not value:
        raise SettingsError(f"{variable} is set but empty; unset it or fill it")
    return value
