"""Chooses the Feast store: an environment's `feature_store.yaml`, filled from the settings."""

import os
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.online_stores import writer_of
from recommender.errors import SettingsError
from recommender.settings import Settings
from recommender.storage.home import FeatureStoreFolder, Home

if TYPE_CHECKING:
    from feast import FeatureStore

ENVIRONMENTS = Path(__file__).parent / "environments"
VARIABLE = "FEATURE_STORE_ENVIRONMENT"


def store_folder(settings: Settings) -> FeatureStoreFolder:
    """The feature store below `home`, absolute, because Feast resolves relative paths against another folder."""
    return Home(settings.home.absolute()).feature_store


def environment_file(settings: Settings, environment: str | None = None) -> Path:
    """The `feature_store.yaml` of an environment.

    Args:
        settings: They name the online store.
        environment: Its name. None: that in FEATURE_STORE_ENVIRONMENT or, without it, the online store's own.

    Raises:
        SettingsError: there is no such environment, or it does not go with `store.kind`; names those that do.
    """
    fitting = writer_of(settings).environments
    environment = environment or os.environ.get(VARIABLE, fitting[0])
    file = ENVIRONMENTS / environment / "feature_store.yaml"
    if not file.is_file():
        known = ", ".join(sorted(folder.name for folder in ENVIRONMENTS.iterdir()))
        raise SettingsError(f"{VARIABLE}={environment}: no such environment; there are {known}")
    if environment not in fitting:
        raise SettingsError(
            f"{VARIABLE}={environment} does not go with store.kind = {settings.store.kind!r}; "
            f"choose {' or '.join(fitting)}"
        )
    return file


def store_config(settings: Settings) -> dict[str, Any]:
    """The environment's `feature_store.yaml` with every variable filled in and the online store of the settings.

    Raises:
        SettingsError: no such environment, or a variable that is not set; names it.
    """
    import yaml

    file = environment_file(settings)
    variables = {
        "FEATURE_STORE_HOME": str(store_folder(settings).root),
        "FEATURE_STORE_PROJECT": settings.store.project,
    }
    config: dict[str, Any] = _fill(yaml.safe_load(file.read_text(encoding="utf-8")), variables, file)
    return {**config, "online_store": writer_of(settings).config(settings)}


def open_store(settings: Settings) -> "FeatureStore":
    """Feast's handle of the store that the settings describe. The folder of the registry is made if it is missing."""
    from feast import FeatureStore, RepoConfig

    store_folder(settings).root.mkdir(parents=True, exist_ok=True)
    return FeatureStore(config=RepoConfig(**store_config(settings)))


def _fill(value: Any, variables: dict[str, str], file: Path) -> Any:
    if isinstance(value, dict):
        return {key: _fill(entry, variables, file) for key, entry in value.items()}
    if isinstance(value, str):
        try:
            return string.Template(value).substitute(variables)
        except KeyError as error:
            raise SettingsError(f"{file}: the variable {error.args[0]} is not set") from None
    return value
