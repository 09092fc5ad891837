"""Settings of the platform: frozen, validated models, read from one TOML file and the environment.

`load_settings` reads `recommender.toml` and variables such as `RECOMMENDER__SERVING__PORT=9000`. A pipeline step
receives the settings as JSON instead (`settings_from_json`), so that the cluster's cache key holds every value and
the step's own environment changes nothing. Nothing else reads settings, and `Settings.updated` is the only way to
change them: it validates again.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recommender.errors import LONGEST_VALUE, SettingsError, suggestion

PREFIX, DELIMITER = "RECOMMENDER__", "__"
FILE_VARIABLE = "RECOMMENDER_SETTINGS"

Port = Annotated[int, Field(ge=1, le=65_535)]
"""A TCP port has 16 bits. 0 would stand for any free port, which no client could know."""
Milliseconds = Annotated[int, Field(ge=1, le=60_000)]
"""At most a minute: no shopper waits longer, and a larger number was most likely meant in another unit."""
OnlineStoreName = Literal["sqlite", "redis"]
"""Read by `serving.online_store.client.READERS`, written by `feature_repo.online_stores.WRITERS`."""

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the outermost section to a value."""
Choice = TypeVar("Choice")


class Section(BaseModel):
    """Base of every part of the settings: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SourceSettings(Section):
    """Where the tables come from."""

    dataset: str = Field(
        "complete_journey",
        description="A data source of `recommender.datasets.sources.SOURCES`: complete_journey, files or synthetic.",
    )
    mapping: str = Field("", description="`files`: path of the mapping TOML.")
    synthetic: dict[str, Any] = Field(
        default_factory=dict, description="`synthetic`: fields of `recommender.datasets.synthetic.World`."
    )


class TimeSettings(Section):
    """What "now" is, and the periods. Dates and times without a zone are meant in the shop's own time zone."""

    as_of: datetime | date | None = Field(None, description='"Now". None: the moment of the last event.')
    gate_from: datetime | date | None = Field(
        None,
        description="Campaigns that start in [gate_from, test_from) decide between challenger and champion. "
        "None: chosen from the data.",
    )
    test_from: datetime | date | None = Field(
        None,
        description="Campaigns that start on or after it are the final test: reported, never used for a choice. "
        "None: chosen from the data.",
    )


class TrainingSettings(Section):
    """Which rankers are trained, and where. The default numbers are chosen by hand."""

    challenger: str = Field("transformer", description="The ranker that is measured against the champion.")
    baselines: tuple[str, ...] = Field(
        ("popularity", "rate_rule", "logistic"), description="Trained beside it; the last one is the first champion."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the challenger is trained.")
    threads: int = Field(
        2,
        ge=1,
        le=128,
        description="Threads of DuckDB, which builds the features: two, as many as a small machine has. Torch trains "
        "with one thread on the CPU, so that weights do not depend on the number of cores.",
    )
    seed: int = Field(17, description="Seed of everything random in training. The default has no meaning of its own.")
    checkpoint_every_s: float = Field(
        30.0, gt=0, description="Seconds between checkpoints, which is the most work that a killed training loses."
    )
    rankers: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="`rankers.<name>`: hyperparameters of a ranker (`recommender rankers`)."
    )


class ServingSettings(Section):
    """The gateway and the model server. Secrets (token, Redis password) are never among the settings.

    The defaults of deadlines, shares and exploration are chosen by hand. 8080 to 8082 are TorchServe's own ports.
    """

    host: str = Field("127.0.0.1", description="Address on which the gateway listens; loopback unless told otherwise.")
    port: Port = Field(8000, description="The gateway's port.")
    inference_host: str = Field(
        "127.0.0.1",
        description="Address on which TorchServe itself answers, without a token. In a pod: 0.0.0.0, behind a "
        "NetworkPolicy.",
    )
    inference_port: Port = Field(8080, description="TorchServe's inference API.")
    management_port: Port = Field(8081, description="TorchServe's management API; always on loopback.")
    metrics_port: Port = Field(8082, description="TorchServe's metrics API.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes for each version; one takes at least 220 MB.")
    # By hand. An answer with a model normally takes 1 to 10 ms and a read of the store 0.1 ms; the deadlines leave room
    # for a busy machine.
    deadline_ms: Annotated[Milliseconds, Field(ge=5)] = Field(
        250, description="Time for the features and the model together, from a request's arrival."
    )
    store_deadline_ms: Milliseconds = Field(
        50, description="Time for the read of the online store; a later answer is not waited for."
    )
    # By hand: small, so that a challenger that turns out worse costs little.
    canary_share: float = Field(0.1, gt=0, lt=1, description="Share of users that a promoted challenger gets.")
    assignment_salt: str = Field(
        "campaign-ranker", description="Part of the hash that assigns users to variants; another salt draws them anew."
    )
    state: Path | None = Field(
        None,
        description="What one replica keeps for itself: model store, TorchServe's logs, pid files. None: below `home`.",
    )
    max_feature_age_s: float = Field(
        8 * 86_400,
        gt=0,
        description="Older features are still used, but the answer is marked `degraded`. Eight days: a weekly run may "
        "be a day late.",
    )
    exploration: Literal["none", "epsilon", "thompson"] = Field(
        "none",
        description="Whether chance takes part in the order of campaigns (`recommender.policies.exploration`). "
        "Decision records then hold the propensities.",
    )
    # By hand: one answer in twenty is drawn, so that exploring costs little.
    exploration_rate: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Probability with which the first campaign is drawn uniformly from all candidates.",
    )
    # By hand: a standard deviation of 0.38 on the log-odds, which reorders campaigns that are nearly equal.
    exploration_spread: float = Field(
        0.3, gt=0, le=10, description="`thompson`: scale of the Gumbel noise on the log-odds."
    )


class StoreSettings(Section):
    """The online store: the materialise step writes it, serving reads it."""

    kind: OnlineStoreName = Field("sqlite", description="Which online store.")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="redis:// or rediss://, user@ before the host where there is one. Never a password: that is the "
        "secret `redis_password`.",
    )
    project: str = Field("campaigns", description="Feast's project; part of every key in the store.")

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, url: str) -> str:
        # No message repeats the URL: it may hold a password.
        form = "must be redis://host:port/db or rediss://host:port/db"
        try:
            parts = urlsplit(url)
            has_address = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        except ValueError:
            raise ValueError(f"{form}; the port is a number from 1 to 65535") from None
        if parts.password is not None:
            raise ValueError("must not hold a password; give it as the secret redis_password")
        if not has_address:
            raise ValueError(form)
        if not (parts.path.strip("/") or "0").isdecimal():
            raise ValueError(f"{form}; the database must be a number (got {parts.path.strip('/')!r})")
        return url


class Settings(Section):
    """All settings of the platform."""

    home: Path = Field(
        Path("var"),
        description="The folder that outlives a run, on a cluster a mounted volume. See `storage.home.Home`.",
    )
    judgement: Path = Field(Path("judgement.toml"), description="TOML file with the rules of the gate.")
    source: SourceSettings = SourceSettings()
    time: TimeSettings = TimeSettings()
    training: TrainingSettings = TrainingSettings()
    store: StoreSettings = StoreSettings()
    serving: ServingSettings = ServingSettings()

    def updated(self, **changes: Any) -> Self:
        """These settings with `changes`, validated again.

        A mapping changes some keys of a section, a section replaces it whole.

        Raises:
            SettingsError: an unknown key or a value that is not allowed; names the key.
        """
        try:
            return type(self).model_validate(_merged(self.model_dump(), changes))
        except ValidationError as error:
            raise _refusal(error, "settings") from None


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from `file` (TOML), then the environment, then `overrides`: the last one wins.

    Without `file` it is the one that the environment variable RECOMMENDER_SETTINGS names, if any.

    Raises:
        SettingsError: the file is missing or not TOML, or a key is unknown or its value not allowed. Names the key,
            and the file or
            the environment variable that holds it; suggests the nearest key.
    """
    if file is None and (named := os.environ.get(FILE_VARIABLE)):
        file = Path(named)
    variables: dict[KeyPath, str] = {
        tuple(name[len(PREFIX) :].lower().split(DELIMITER)): name
        for name in os.environ
        if name.upper().startswith(PREFIX)
    }
    environment = _from_environment(variables)
    values = _merged({} if file is None else _from_file(file), environment)
    try:
        return Settings.model_validate(_merged(values, overrides))
    except ValidationError as error:
        raise _refusal(error, str(file or "settings"), environment, variables) from None


def settings_from_json(text: str) -> Settings:
    """The settings that a pipeline step or a process of serving received from its parent.

    Raises:
        SettingsError: the text is not JSON, a key is missing or unknown, or its value is not allowed; names the key.
    """
    try:
        settings = Settings.model_validate_json(text)
    except ValidationError as error:
        raise _refusal(error, "settings") from None
    # A default in the place of a missing section would run something else than was asked for.
    missing = [name for name in Settings.model_fields if name not in settings.model_fields_set]
    if missing:
        raise SettingsError(
            f"settings: {', '.join(missing)}: missing; a step needs all of `Settings.model_dump_json()`"
        )
    return settings


def choose(table: Mapping[str, Choice], name: str, key: str) -> Choice:
    """The entry of `table` that the settings' `key` names.

    Raises:
        SettingsError: there is no such entry; names the key and every entry there is.
    """
    if name in table:
        return table[name]
    raise SettingsError(f"{key}: unknown name {name!r}; choose one of {', '.join(table)}")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such settings file") from None
    except OSError as error:
        raise SettingsError(f"{file}: the settings file cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # also bytes that are not UTF-8
        raise SettingsError(f"{file}: not TOML: {error}") from None


def _from_environment(variables: Mapping[KeyPath, str]) -> dict[str, Any]:
    """The values of RECOMMENDER__SECTION__KEY variables (`variables`: their names by path), nested."""
    given: dict[Any, Any] = {}
    # Shorter paths first: a variable of one key overrides the JSON of its whole section.
    for path in sorted(variables, key=len):
        place = given
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise SettingsError(
                    f"environment variable {variables[path]}: {_key(path[:-1])} is one value, without keys"
                )
        place[path[-1]] = _from_text(variables[path], path)
    return given


def _from_text(variable: str, path: KeyPath) -> Any:
    """A variable's value: JSON where the key holds a list, a table or a whole section, else the text itself."""
    text, kind = os.environ[variable], _kind_at(path)
    if not _has_parts(kind) and kind is not Any:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if kind is Any:
            return text
        raise SettingsError(f"environment variable {variable}: {_key(path)} must be JSON ({error})") from None


def _kind_at(path: KeyPath) -> Any:
    """The annotation of the value at `path` in the settings. None where there is no such key."""
    kind: Any = Settings
    for part in path:
        if _is_model(kind):
            field = kind.model_fields.get(part)
            kind = None if field is None else field.annotation
        elif _has_parts(kind):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        elif kind is not Any:
            return None
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _has_parts(kind: Any) -> bool:
    return _is_model(kind) or get_origin(kind) in (dict, tuple)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _refusal(
    error: ValidationError,
    origin: str,
    environment: Mapping[str, Any] | None = None,
    variables: Mapping[KeyPath, str] | None = None,
) -> SettingsError:
    """The error of settings that are not valid: where they came from, which key, what is wrong, the value."""
    problems: dict[str, str] = {}
    for one in error.errors(include_url=False):
        path = _key_part(one["loc"])
        place = f"{_variable_of(path, environment or {}, variables or {}) or origin}: {_key(path)}".removesuffix(": ")
        # A union has one message for each of its members: the first says what is wrong with the value.
        problems.setdefault(place, _problem(path, one["type"], one["msg"].removeprefix("Value error, "), one["input"]))
    return SettingsError("; ".join(f"{place}: {problem}" for place, problem in problems.items()))


def _key_part(loc: KeyPath) -> KeyPath:
    """The keys of pydantic's location `loc`, without the name of a union's member at its end."""
    return next(loc[:end] for end in range(len(loc), -1, -1) if end == 0 or _has_parts(_kind_at(loc[: end - 1])))


def _key(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _variable_of(path: KeyPath, environment: Mapping[str, Any], variables: Mapping[KeyPath, str]) -> str:
    """The environment variable that holds the value at `path`. Empty if the environment does not."""
    value: Any = environment
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return ""
        value = value[part]
    names = (name for own, name in variables.items() if all(a == b for a, b in zip(own, path, strict=False)))
    return f"environment variable {next(names)}" if path else ""


def _problem(path: KeyPath, error: str, message: str, value: Any) -> str:
    if error == "extra_forbidden":
        return f"unknown key; {suggestion(str(path[-1]), _kind_at(path[:-1]).model_fields)}"
    if not isinstance(value, (str, int, float)) or _may_hold_a_secret(path):
        return message
    return f"{message} (got {repr(value)[:LONGEST_VALUE]})"


def _may_hold_a_secret(path: KeyPath) -> bool:
    """Whether no message may repeat the value at `path`: a whole section given as text, or a field without `repr`."""
    above = _kind_at(path[:-1])
    return _is_model(_kind_at(path)) or (_is_model(above) and not above.model_fields[path[-1]].repr)
