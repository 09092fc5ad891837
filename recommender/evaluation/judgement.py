"""The rules of the gate, read from one TOML file. Every verdict records the file's SHA-256.

A run in a folder without a file of rules uses the packaged ones, which are those of the repository's judgement.toml.
"""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recommender.datasets.periods import GATE_CAMPAIGNS
from recommender.errors import SettingsError, suggestion
from recommender.settings import Settings
from recommender.storage.manifest import sha256

DEFAULT_FILE = Path("judgement.toml")
"""The rules' file where the settings name none, in the working folder."""


Threshold = Literal["base_rate"] | Annotated[float, Field(gt=0, lt=1)]
"""A probability, or the rule by which one is found in what was known before the period."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GateRule(_Frozen):
    """The rule for the primary metric. A gain is challenger minus champion, with the sign such that more is better."""

    primary_metric: Literal["auc", "ap", "log_loss"] = "log_loss"
    """The metrics that tell rankers apart on this task. Log loss depends on order and calibration at once."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """The lower end of the gain's interval must lie above minus this. With 0 the challenger must be better."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the intervals that are shown, the usual one. The gate's own follows from `false_promotions`."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """1,000 is the usual minimum for 95 % percentile intervals (Efron & Tibshirani, 1993)."""
    false_promotions: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Largest probability that equal challengers are promoted, over all attempts on a gate period; see `ledger`."""
    min_campaigns: Annotated[int, Field(ge=2)] = 6
    """With fewer campaigns the challenger is held. Simulated: with 5 or fewer the interval rarely excludes zero."""
    min_positives: Annotated[int, Field(ge=1)] = 30
    """With fewer participations the challenger is held. Chosen by hand."""


class Guardrails(_Frozen):
    """Limits that a challenger must keep, however good its primary metric is. The defaults are chosen by hand."""

    max_ece: Annotated[float, Field(gt=0)] = 0.05
    """Calibration error beyond chance, see `RankerResult.excess_ece`."""
    max_ece_increase: Annotated[float, Field(ge=0)] = 0.015
    """The same, minus the champion's."""
    max_slice_auc_drop: Annotated[float, Field(ge=0)] = 0.05
    """Loss of AUC against the champion in any slice. It counts if its interval excludes zero."""
    min_slice_pairs: Annotated[int, Field(ge=10)] = 100
    """Smaller slices are shown but not judged: their AUC has too wide an interval."""
    min_slice_positives: Annotated[int, Field(ge=1)] = 10
    """The same for slices with fewer participations."""
    max_slice_take_up_error: Annotated[float, Field(gt=1)] = 1.25
    """Factor by which the expected take-up of a slice may be off, too high or too low. It counts if that is beyond
    chance and worse than the champion's, see `evaluation.reliability`."""
    max_slice_take_up_error_increase: Annotated[float, Field(ge=1)] = 1.15
    """How many times as large as the champion's that factor may be."""
    min_slice_campaigns: Annotated[int, Field(ge=2)] = 4
    """The same needs this many campaigns in the slice: a ranker may be off in a whole campaign by chance."""
    max_coverage_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Loss of campaign coverage against the champion. It counts if its interval excludes zero."""
    max_opportunity_gap_increase: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Increase of the opportunity gap over the champion's. It counts if its interval excludes zero. With 0.1, equal
    rankers that differ much by chance were held in 6 % of 200 simulated gate periods of the default data."""
    max_latency_ms: Annotated[float, Field(gt=0)] = 25.0
    """95th percentile of the CPU time of scoring one user, see `evaluation.latency`."""
    max_bundle_mib: Annotated[float, Field(gt=0)] = 64.0
    """Size of the bundle, which every replica loads."""


class Report(_Frozen):
    """What the page shows beside what decides."""

    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)] = ("base_rate", 0.5)
    """For accuracy, precision, recall and F1, see `evaluation.thresholds`. A confusion matrix is at the first one."""


class ListRule(_Frozen):
    """Which part of a list is judged. Chosen by hand: on the default data two to six campaigns are live at once."""

    cut: Annotated[int, Field(ge=1, le=50)] = 2
    """Campaigns from the top. More would show every user nearly all of them."""
    top: Annotated[int, Field(ge=1, le=50)] = 1
    """Places that catch a participation. Two would catch all of them."""

    @model_validator(mode="after")
    def _top_is_shown(self) -> Self:
        if self.top > self.cut:
            raise ValueError(f"`top` must be at most `cut` ({self.cut}, got {self.top})")
        return self


class Judgement(_Frozen):
    """The whole file. `sha256` is the hash of its bytes."""

    gate: GateRule = GateRule()
    guardrails: Guardrails = Guardrails()
    lists: ListRule = ListRule()
    report: Report = Report()
    sha256: str = ""


def judgement_file(path: Path | None) -> Path:
    """The file of rules that the settings mean.

    Where they name none (None), it is `judgement.toml` in the working folder, or else the packaged one.
    """
    if path is not None:
        return path
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else Path(str(resources.files(__package__) / DEFAULT_FILE.name))


def read_judgement(path: Path | None = None) -> Judgement:
    """Read the rules from a TOML file. Without `path`: see `judgement_file`.

    Raises:
        SettingsError: the file is missing or not TOML, or has an unknown key or a value out of range; names the key.
    """
    path = judgement_file(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such judgement file; correct `judgement` in the settings") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML ({error})") from None
    if "sha256" in values:
        raise SettingsError(f"{path}: sha256: unknown key")
    try:
        return Judgement.model_validate({**values, "sha256": sha256(path)})
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, e['loc']))}: {_problem(e['loc'], e['type'], e['msg'])} (got {e['input']!r})"
            for e in error.errors(include_url=False)
        )
        raise SettingsError(f"{path}: {'; '.join(problems)}") from None


def with_gate_campaigns(settings: Settings) -> Settings:
    """The settings with the rules' `min_campaigns` as `time.gate_campaigns`, where periods are chosen from the data.

    A gate period that is chosen for fewer campaigns than the rules demand would hold every challenger. Settings that
    give both periods or the number, or whose file of rules lies on another machine, stay as they are.

    Raises:
        SettingsError: as `read_judgement`.
    """
    time, path = settings.time, judgement_file(settings.judgement)
    given = time.gate_campaigns is not None or (time.gate_from is not None and time.test_from is not None)
    if given or not path.is_file():
        return settings
    wanted = read_judgement(path).gate.min_campaigns
    # The default stays unsaid, so that it is no other identity of the run's steps.
    return settings if wanted == GATE_CAMPAIGNS else settings.updated(time={"gate_campaigns": wanted})


def _problem(place: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        return message
    section = Judgement.model_fields[str(place[0])].annotation if len(place) > 1 else Judgement
    known = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
    return f"unknown key; {suggestion(str(place[-1]), set(known) - {'sha256'})}"
