"""Looks at what a run will meet: volume, secrets, online store, registry, judgement file and source.

Each look costs at most seconds, and each refusal is one sentence that says what to do.
"""

import os
import tempfile
from pathlib import Path

from components.step import WAITS_S, patiently
from feature_repo.environment import store_config
from feature_repo.online_stores import writer_of
from recommender import logs
from recommender.datasets.identity import source_identity
from recommender.days import days_identity
from recommender.errors import CorruptFileError, RegistryError, SettingsError
from recommender.evaluation.judgement import read_judgement
from recommender.event_tables.append import log_identity
from recommender.registry import Registry
from recommender.secrets import FOLDER_VARIABLE, secret
from recommender.settings import Settings
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home

SECRETS = ("redis_password", "postgres_password", "source_password")
"""Secrets that a step reads. None is needed by every run, but one that is there must be readable and not empty."""
log = logs.get(__name__)


def check_surroundings(settings: Settings, *, volume: str = "", waits_s: tuple[float, ...] = WAITS_S) -> str:
    """Look at everything that a later step needs, and return the identity of the source's content.

    Args:
        settings: The settings of the run.
        volume: Where a volume must be mounted. Empty: `home` is an ordinary folder.
        waits_s: Pauses between tries while a store or bucket is away.

    Raises:
        SettingsError: The volume, a secret, the judgement file or the feature store's environment is missing or wrong.
        FeatureStoreError: The online store refuses the password, or does not answer.
        RegistryError: The registry cannot be read.
        SourceError: The source cannot be read.
    """
    check_volume(settings.home, volume=volume)
    check_secrets()
    read_judgement(settings.judgement)
    store_config(settings)
    patiently(lambda: writer_of(settings).check(settings), waits_s=waits_s)
    check_registry(settings)
    identity = patiently(lambda: source_identity(settings.source), waits_s=waits_s)
    identity = days_identity(settings, log_identity(Home.of(settings).events, identity))
    # Whoever is forgotten is left out of the tables, so that these are other ones.
    identity = Forgotten.of(Home.of(settings)).identity(identity)
    log.info(
        "surroundings checked",
        home=str(settings.home),
        online_store=settings.store.kind,
        source=settings.source.dataset,
        source_identity=identity,
    )
    return identity


def check_volume(home: Path, *, volume: str = "") -> None:
    """Refuse a home that this user cannot write, or that would be lost with the pod.

    Raises:
        SettingsError: Nothing is mounted at `volume`, or `home` cannot be made or written.
    """
    if volume and not os.path.ismount(volume):
        raise SettingsError(
            f"home: no volume is mounted at {volume}, so what the run writes would be lost; "
            "create the claim that cluster.claim names, and compile again"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, prefix=".check-"):
            pass
    except OSError as error:
        user = f"{os.getuid()}:{os.getgid()}"
        raise SettingsError(
            f"home: {home} cannot be written by user {user} ({error.strerror}); give the folder to that user "
            f"(chown -R {user}) or free its space"
        ) from None


def check_secrets() -> None:
    """Refuse a secret that is there but empty or unreadable.

    Raises:
        SettingsError: Names the file or the variable.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and Path(folder).exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise SettingsError(f"{folder}: the secrets cannot be read by user {os.getuid()}; mount them readable for it")
    for name in SECRETS:
        secret(name)


def check_registry(settings: Settings) -> None:
    """Refuse a registry that cannot be read, or whose champion is damaged.

    Raises:
        RegistryError: Says what is wrong with it.
    """
    registry = Registry(settings.home)
    try:
        champion = registry.champion()
        if champion is not None:
            registry.lineage(champion)
    except (CorruptFileError, ValueError) as error:
        raise RegistryError(
            f"the registry below {settings.home} cannot be read ({error}); restore it from a backup"
        ) from None
