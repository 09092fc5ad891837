"""The sections of the settings, each a frozen model with bounds and meanings on its fields."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recommender.settings.cores import usable_cores
from recommender.settings.sizes import bytes_of

Port = Annotated[int, Field(ge=1, le=65_535)]
"""A TCP port has 16 bits. 0 would stand for any free port, which no client could know."""
Milliseconds = Annotated[int, Field(ge=1, le=60_000)]
"""At most a minute: no shopper waits longer, and a larger number is most likely in the wrong unit."""


class Section(BaseModel):
    """Base of every part of the settings: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SourceSettings(Section):
    """The source of the tables."""

    dataset: str = Field(
        "complete_journey",
        description="A data source of `recommender.datasets.sources.SOURCES`: complete_journey, files or synthetic.",
    )
    mapping: str = Field("", description="`files`: path of the mapping TOML.")
    synthetic: dict[str, Any] = Field(
        default_factory=dict, description="`synthetic`: fields of `recommender.datasets.synthetic.World`."
    )


class TimeSettings(Section):
    """The time that counts as "now", and the periods. Dates and times without a zone are in the shop's time zone."""

    as_of: datetime | date | None = Field(
        None, description='The time that counts as "now". None: the time of the last event.'
    )
    gate_from: datetime | date | None = Field(
        None,
        description="Campaigns that start in [gate_from, test_from) decide between challenger and champion. "
        "None: chosen from the data.",
    )
    test_from: datetime | date | None = Field(
        None,
        description="Campaigns that start on or after it are the final test: reported, never used for a decision. "
        "None: chosen from the data.",
    )
    gate_campaigns: int | None = Field(
        None,
        ge=1,
        description="Campaigns that a gate period chosen from the data holds, where the data allow it. None: "
        "`min_campaigns` of the judgement file, where the command that starts the run can read that file, or else 6.",
    )


class TrainingSettings(Section):
    """The rankers to train, and how."""

    challenger: str = Field("transformer", description="The ranker that is measured against the champion.")
    baselines: tuple[str, ...] = Field(
        ("popularity", "rate_rule", "logistic"),
        description="Rankers trained beside the challenger. The last one is the first champion.",
    )
    trials: int = Field(
        0,
        ge=0,
        le=1_000,
        description="Configurations of the challenger that a run tries before the gate period, as `recommender tune` "
        "does. The best one is trained. 0: its configured hyperparameters.",
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the challenger is trained.")
    threads: int = Field(
        2,
        ge=1,
        le=128,
        description="Threads of DuckDB, which builds the features: two, as many as a small machine has. Torch trains "
        "with one thread on the CPU, so that weights do not depend on the number of cores.",
    )
    seed: int = Field(17, description="Seed of everything random in training. The default has no special meaning.")
    checkpoint_every_s: float = Field(
        30.0, gt=0, description="Seconds between checkpoints: the most work that a killed training loses."
    )
    calibration_fits: int | None = Field(
        None,
        ge=0,
        le=12,
        description="Most further fits by which a ranker's calibrator is chosen. Unset: 12 for rankers that fit in "
        "seconds, 0 for those that train networks. 0: no calibrator.",
    )
    rankers: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="`rankers.<name>`: hyperparameters of a ranker, as `recommender rankers` lists them.",
    )


class ServingSettings(Section):
    """The gateway and the model server. Secrets (token, Redis password) are never among the settings.

    The defaults of deadlines, shares and exploration are chosen by hand. 8000 is uvicorn's own port, 8080 to
    8082 are TorchServe's.
    """

    host: str = Field("127.0.0.1", description="Address on which the gateway listens. The default is loopback.")
    port: Port = Field(8000, description="The gateway's port.")
    engine: Literal["torchserve", "in_process", "oip"] = Field(
        "torchserve",
        description="What scores: TorchServe; worker processes of the gateway's own; or a server of the Open Inference "
        "Protocol v2 at `oip_url`.",
    )
    oip_url: str | None = Field(
        None,
        pattern=r"^http://[^/\s]+(/[^\s]*)?$",
        description="`oip`: the server's address, such as http://127.0.0.1:8085. It may contain {version}.",
    )
    oip_model: str = Field(
        "campaign_ranker-{version}",
        pattern=r"^[A-Za-z0-9_.{}-]+$",
        description="`oip`: the model's name on the server. Without {version}, the version goes into the path.",
    )
    oip_repository: Path | None = Field(
        None,
        description="`oip`: the folder from which the server (MLServer) loads models. The deployer writes each version "
        "there. None: somebody else brings the versions to the server.",
    )
    inference_host: str = Field(
        "127.0.0.1",
        description="Address on which TorchServe itself listens. It asks for no token. In a pod: 0.0.0.0, behind a "
        "NetworkPolicy.",
    )
    inference_port: Port = Field(8080, description="TorchServe's inference API.")
    management_port: Port = Field(8081, description="TorchServe's management API, always on loopback.")
    metrics_port: Port = Field(8082, description="TorchServe's metrics API.")
    workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Worker processes for each version. One takes at least 220 MB. None: two where there are two "
        "cores, so that one that dies leaves another, else one.",
    )
    # By hand. An answer with a model normally takes 1 to 10 ms and a read of the store 0.1 ms; the deadlines leave room
    # for a busy machine.
    deadline_ms: Annotated[Milliseconds, Field(ge=5)] = Field(
        250, description="Time for the features and the model together, from a request's arrival."
    )
    store_deadline_ms: Milliseconds = Field(
        50, description="Time for the read of the online store. A later answer is ignored."
    )
    health_port: Port | None = Field(
        None,
        description="A port for /healthz, /readyz and /metrics that a thread of its own answers, so that probes do not "
        "queue behind requests. None: they are answered on `port` only.",
    )
    max_connections: int = Field(
        1000,
        ge=16,
        le=100_000,
        description="Connections of clients at once. Beyond it a new one takes the place of one that waits for a "
        "request. By hand: far more than load balancers keep.",
    )
    gateway_processes: int = Field(
        1,
        ge=1,
        le=32,
        description="Gateway processes behind one port (not with the engine `in_process`). More pay off where cores "
        "are left over: see docs/serving.md.",
    )
    token_rate_per_s: float | None = Field(
        None, gt=0, description="Requests per second of one token, with bursts of a second. None: no limit."
    )
    # By hand: small, so that a challenger that turns out worse costs little.
    canary_share: float = Field(0.1, gt=0, lt=1, description="Share of users that a promoted challenger gets.")
    assignment_salt: str = Field(
        "campaign-ranker",
        description="Part of the hash that assigns users to variants. Another salt assigns them anew.",
    )
    state: Path | None = Field(
        None,
        description="Folder for a replica's private files: model store, TorchServe's logs, pid files. "
        "None: below `home`.",
    )
    max_feature_age_s: float = Field(
        8 * 86_400,
        gt=0,
        description="Older features are still used, but the answer is marked `degraded`. Eight days: a weekly run may "
        "be a day late.",
    )
    allow_repeats: bool = Field(
        False,
        description="Whether a campaign that a user has taken up is recommended to the user again. `recommender score` "
        "and `recommender audience` follow it too.",
    )
    exploration: Literal["none", "epsilon", "thompson"] = Field(
        "none",
        description="How the order of campaigns is randomised (`recommender.policies.exploration`). "
        "Decision records then hold the propensities.",
    )
    # By hand: one answer in twenty is drawn, so that exploring costs little.
    exploration_rate: float = Field(
        0.05,
        gt=0,
        le=1,
        description="`epsilon`: probability that the first campaign is drawn uniformly from all candidates.",
    )
    # By hand: a standard deviation of 0.38 on the log-odds, which reorders campaigns that are nearly equal.
    exploration_spread: float = Field(
        0.3, gt=0, le=10, description="`thompson`: scale of the Gumbel noise on the log-odds."
    )
    rerank: Literal["none", "mmr", "calibrated"] = Field(
        "none",
        description="How campaigns are re-ranked after scoring (`recommender.matching.rerank`): `mmr` varies them, "
        "`calibrated` brings the list's categories closer to the user's own. `recommender score` and the evaluation "
        "follow it too.",
    )
    # By hand: what each value costs is measured, see docs/evaluation.md.
    rerank_trade_off: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Weight of variety or calibration against the score. 0 keeps the order of the scores.",
    )

    @property
    def num_workers(self) -> int:
        """Worker processes for each version, on this machine."""
        return self.workers or (2 if usable_cores() >= 2 else 1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rerank != "none" and self.exploration != "none":
            raise ValueError(
                "`rerank` and `exploration` cannot both be on: the propensities of an exploration are those of the "
                f"order of the scores (got rerank = {self.rerank!r}, exploration = {self.exploration!r})"
            )
        if self.engine == "oip" and self.oip_url is None:
            raise ValueError("engine = 'oip' needs `oip_url`, the address of the server")
        if self.engine == "in_process" and self.gateway_processes > 1:
            raise ValueError(
                "engine = 'in_process' needs gateway_processes = 1, because each gateway process would start `workers` "
                f"of its own for each version (got gateway_processes = {self.gateway_processes})"
            )
        self._require_own_ports()
        return self

    def _require_own_ports(self) -> None:
        keys = ["port", "health_port"]
        if self.engine == "torchserve":
            keys += ["inference_port", "management_port", "metrics_port"]
        first: dict[int, str] = {}
        for key in keys:
            port = getattr(self, key)
            if port is not None and first.setdefault(port, key) != key:
                raise ValueError(f"`{first[port]}` and `{key}` must be different ports (got {port} for both)")


Days = Annotated[int, Field(ge=1, le=36_500)]
"""At least a day, so that nothing that was just made is old. At most a century, as a larger number is no day count."""


class RetentionSettings(Section):
    """Days after which `recommender clean` removes what nothing needs any more. None keeps it for ever."""

    runs: Days | None = Field(None, description="Logs and artifacts of local runs of a pipeline.")
    checkpoints: Days | None = Field(None, description="Checkpoints and finished fits that a training resumes from.")
    versions: Days | None = Field(None, description="Versions in the registry that do not serve and never did.")
    catalogues: Days | None = Field(None, description="Catalogues that serving has replaced.")
    quarantine: Days | None = Field(None, description="Rows that were set aside, with the tables of their run.")
    decisions: Days | None = Field(None, description="The decision log and its exposures.")
    sources: Days | None = Field(
        None, description="Daily partitions and last features of sources that are read no more."
    )


LEAST_MEMORY = "256MiB"
"""Below, two threads of DuckDB cannot sort or join a table at all."""


class ResourceSettings(Section):
    """What reading and checking a log and building features may use of a machine. None of it changes a result."""

    memory_limit: str | None = Field(
        None,
        description='Memory of DuckDB, such as "2GiB". What exceeds it lies in temporary files. The process itself '
        "needs some 400 MiB more. None: half of what the machine, or the process's cgroup, has; for features 2 GB.",
    )
    threads: int = Field(
        2, ge=1, le=128, description="Threads of DuckDB. Two: as many as a small machine has, and each needs memory."
    )
    scratch: Path | None = Field(
        None,
        description="Folder for temporary files: unpacked and recoded files, typed rows, and what exceeds the memory. "
        "None: the system's own (TMPDIR).",
    )

    @field_validator("scratch")
    @classmethod
    def _is_folder(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError(f"no such folder (got {folder}); create it, or leave the key out")
        return folder

    @field_validator("memory_limit")
    @classmethod
    def _is_size(cls, size: str | None) -> str | None:
        if size is not None and bytes_of(size) < bytes_of(LEAST_MEMORY):
            raise ValueError(f"must be at least {LEAST_MEMORY}")
        return size


DEFAULT_RESOURCES = ResourceSettings()
