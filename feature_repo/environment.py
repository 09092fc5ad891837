"""Which Feast store: an environment's `feature_store.yaml`, filled from settings, secrets and the process environment."""

import os
import string
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from recommender.errors import SettingsError
from recommender.secrets import secret
from recommender.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

ENVIRONMENTS = Path(__file__).parent / "environments"


def store_home(settings: Settings) -> Path:
    """The folder of the registry, the online SQLite file, the offline Parquet and the serving schema; absolute."""
    return (settings.home / "feature_store").absolute()


def environment_of(settings: Settings) -> str:
    """`FEATURE_STORE_ENVIRONMENT`, or what the kind of the online store implies: local for SQLite, staging for Redis."""
    implied = "local" if settings.store.kind == "sqlite" else "staging"
    return os.environ.get("FEATURE_STORE_ENVIRONMENT", implied)


def redis_connection(url: str) -> str:
    """Feast's connection string of `store.redis_url`; the password is the secret `redis_password`.

    Raises:
        SettingsError: the password holds a comma, which Feast cannot express.
    """
    parts = urlsplit(url)
    options = [f"{parts.hostname}:{parts.port or 6379}", f"db={parts.path.strip('/') or '0'}"]
    if parts.scheme == "rediss":
        options.append("ssl=true")
    if parts.username:
        options.append(f"username={unquote(parts.username)}")
    if password := secret("redis_password"):
        if "," in password:
            raise SettingsError(
                "the secret redis_password holds a comma, which Feast's connection string cannot express"
            )
        options.append(f'password="{password}"' if password.isdigit() else f"password={password}")
    return ",".join(options)


def _fill(value: Any, variables: dict[str, str], where: Path) -> Any:
    if isinstance(value, dict):
        return {key: _fill(entry, variables, where) for key, entry in value.items()}
    if isinstance(value, str):
        try:
            return string.Template(value).substitute(variables)
        except KeyError as error:
            raise SettingsError(f"{where}: the variable {error.args[0]} is not set") from None
    return value


def store_config(settings: Settings) -> dict[str, Any]:
    """The content of the environment's `feature_store.yaml`, every variable filled in.

    Raises:
        SettingsError: no such environment, a variable that is not set, or an online store of another kind than `store.kind`.
    """
    import yaml

    environment = environment_of(settings)
    file = ENVIRONMENTS / environment / "feature_store.yaml"
    if not file.is_file():
        known = ", ".join(sorted(folder.name for folder in ENVIRONMENTS.iterdir()))
        raise SettingsError(f"FEATURE_STORE_ENVIRONMENT={environment}: no such environment; there are {known}")
    variables = {
        "FEATURE_STORE_HOME": str(store_home(settings)),
        "FEATURE_STORE_PROJECT": settings.store.project,
        "FEATURE_STORE_REDIS": redis_connection(settings.store.redis_url),
    }
    if registry := secret("registry_url"):
        variables["FEATURE_STORE_REGISTRY"] = registry
    config: dict[str, Any] = _fill(yaml.safe_load(file.read_text(encoding="utf-8")), variables, file)
    if config["online_store"]["type"] != settings.store.kind:
        raise SettingsError(
            f"{file}: its online store is {config['online_store']['type']}, but settings say store.kind = {settings.store.kind}"
        )
    return config


def open_store(settings: Settings) -> "FeatureStore":
    """Feast's own handle of the store that the settings describe. The folder of the registry is made if it is missing."""
    from feast import FeatureStore, RepoConfig

    store_home(settings).mkdir(parents=True, exist_ok=True)
    config = store_config(settings)
    store = FeatureStore(config=RepoConfig(**config))
    if config["registry"]["registry_type"] == "sql":
        registry: Any = store.registry
        # Feast never closes its connections to the registry's database; here they end with the store.
        weakref.finalize(store, registry.write_engine.dispose)
    return store
