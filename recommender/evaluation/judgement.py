"""What the gate judges by: one TOML file, whose SHA-256 every verdict names."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recommender.errors import SettingsError
from recommender.storage.manifest import sha256


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GateRule(_Frozen):
    """The primary metric's rule. A gain is challenger minus champion, turned so that more is better."""

    primary_metric: Literal["auc", "ap", "log_loss"] = "log_loss"
    margin: Annotated[float, Field(ge=0)] = 0.0
    """The lower end of the gain's interval must lie above minus this: 0 means that it must be better."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    min_positives: Annotated[int, Field(ge=1)] = 30


class Guardrails(_Frozen):
    """Limits that a challenger must keep, however good its primary metric."""

    max_ece: Annotated[float, Field(gt=0)] = 0.05
    max_ece_increase: Annotated[float, Field(ge=0)] = 0.015
    max_slice_auc_drop: Annotated[float, Field(ge=0)] = 0.05
    min_slice_pairs: Annotated[int, Field(ge=10)] = 100
    min_slice_positives: Annotated[int, Field(ge=1)] = 10
    max_latency_ms: Annotated[float, Field(gt=0)] = 25.0
    max_bundle_mib: Annotated[float, Field(gt=0)] = 64.0


class Judgement(_Frozen):
    """The whole file; `sha256` is that of its bytes."""

    gate: GateRule = GateRule()
    guardrails: Guardrails = Guardrails()
    sha256: str = ""


def read_judgement(path: Path) -> Judgement:
    """The judgement of a TOML file.

    Raises:
        SettingsError: no such file, no TOML, an unknown key or a value out of range; names the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such judgement file; `judgement` in the settings names it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: no TOML ({error})") from None
    if "sha256" in values:
        raise SettingsError(f"{path}: sha256: unknown key")
    try:
        return Judgement.model_validate({**values, "sha256": sha256(path)})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{path}: {problems}") from None
