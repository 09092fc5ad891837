"""Settings: frozen models, one TOML file (`recommender.toml`), environment overrides (`RECOMMENDER__SERVING__PORT=9000`).

A pipeline receives them as one JSON string (`Settings.model_dump_json()`), so that the cluster's cache key holds every dial.
"""

import os
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from recommender.errors import SettingsError


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SourceSettings(Section):
    """Where the tables come from."""

    dataset: Literal["complete_journey", "files", "synthetic"] = "complete_journey"
    mapping: str = ""
    """`files`: path of the mapping TOML."""
    synthetic: dict[str, Any] = Field(default_factory=dict)
    """`synthetic`: keyword arguments of `datasets.synthetic.World`."""


class TimeSettings(Section):
    """`as_of` is "now". Campaigns that start in [gate_from, test_from) decide; those in [test_from, …) are the final test."""

    as_of: datetime | date | None = None
    """None: the moment of the last event."""
    gate_from: datetime | date | None = None
    test_from: datetime | date | None = None
    """None: chosen from the data (`evaluation.periods`)."""


class TrainingSettings(Section):
    """What is trained and where. `rankers.<name>` holds a ranker's own hyper-parameters."""

    challenger: str = "transformer"
    baselines: tuple[str, ...] = ("popularity", "rate_rule", "logistic")
    """The last one is the first champion."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=128)] = 2
    """Of DuckDB, which builds the features. Torch trains with one on the CPU, so that weights do not depend on the machine's cores."""
    seed: int = 17
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 30.0
    rankers: dict[str, dict[str, Any]] = Field(default_factory=dict)


class ServingSettings(Section):
    """The door. Ports listen on loopback unless `host` says otherwise; the token is read from the environment only."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    inference_host: str = "127.0.0.1"
    """Where TorchServe itself answers, without a token. In a pod: 0.0.0.0, behind a NetworkPolicy."""
    inference_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    management_port: Annotated[int, Field(ge=1, le=65535)] = 8081
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 8082
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    deadline_ms: Annotated[int, Field(ge=5, le=60_000)] = 250
    store_deadline_ms: Annotated[int, Field(ge=1, le=60_000)] = 50
    canary_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of users that a promoted challenger gets."""
    assignment_salt: str = "campaign-ranker"
    state: Path | None = None
    """What one replica keeps for itself: model store, TorchServe's logs, pid files. None: `home`/serving."""
    max_feature_age_s: Annotated[float, Field(gt=0)] = 8 * 86_400
    """Older features are still used; the answer is marked `degraded`."""
    exploration: Literal["none", "epsilon", "thompson"] = "none"
    """Whether chance takes part in the order of campaigns (`experiments.exploration`); the record then holds the propensities."""
    exploration_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Probability with which the first campaign is drawn uniformly from all candidates."""
    exploration_spread: Annotated[float, Field(gt=0, le=10)] = 0.3
    """`thompson`: scale of the noise on the log-odds."""


class StoreSettings(Section):
    """The online store that serving reads: what `feature_repo` materialised."""

    kind: Literal["sqlite", "redis"] = "sqlite"
    redis_url: str = "redis://127.0.0.1:6379/0"
    """redis:// or rediss://, user@ before the host where there is one; never a password, which is the secret `redis_password`."""
    project: str = "campaigns"

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, url: str) -> str:
        form = "expected redis://host:port/db or rediss://host:port/db"
        try:
            parts = urlsplit(url)
            named = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        except ValueError as error:
            raise ValueError(f"{error}; {form}") from None
        if parts.password is not None:
            raise ValueError("it holds a password; give it as the secret redis_password")
        if not named:
            raise ValueError(form)
        if not (parts.path.strip("/") or "0").isdecimal():
            raise ValueError(f"the database {parts.path.strip('/')!r} is no number; {form}")
        return url


class Settings(BaseSettings):
    """All dials of the platform. `home` is the folder (a volume on a cluster) that outlives a run."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="RECOMMENDER__", env_nested_delimiter="__", toml_file=None
    )

    home: Path = Path("var")
    judgement: Path = Path("judgement.toml")
    source: SourceSettings = SourceSettings()
    time: TimeSettings = TimeSettings()
    training: TrainingSettings = TrainingSettings()
    store: StoreSettings = StoreSettings()
    serving: ServingSettings = ServingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def serving_state(self) -> Path:
        return self.serving.state or self.home / "serving"


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from `file` (TOML), then the environment, then `overrides` (the last one wins).

    Without `file`: the one that the environment variable RECOMMENDER_SETTINGS names, if any; else the defaults.

    Raises:
        SettingsError: the file is missing, is no TOML, or has an unknown key or a wrong type; names the key.
    """
    if file is None and (named := os.environ.get("RECOMMENDER_SETTINGS")):
        file = Path(named)
    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: no such settings file")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file, title="Settings")

    try:
        loaded = FromFile(**overrides)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{file or 'settings'}: {problems}") from None
    except ValueError as error:
        raise SettingsError(f"{file or 'settings'}: {error}") from None
    return Settings.model_construct(**{name: getattr(loaded, name) for name in Settings.model_fields})


def settings_from_json(text: str) -> Settings:
    """The settings that a pipeline step received."""
    try:
        values = BaseModelView.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"settings: {error}") from None
    return Settings.model_construct(**{name: getattr(values, name) for name in Settings.model_fields})


class BaseModelView(Section):
    """`Settings` without its sources: the environment of a pipeline step changes nothing."""

    home: Path
    judgement: Path
    source: SourceSettings
    time: TimeSettings
    training: TrainingSettings
    store: StoreSettings
    serving: ServingSettings
