"""Paths of everything that outlives a run. No other module spells a path below `home`.

    home/
      registry/           versions of trained rankers; what serves (`recommender.registry`)
      checkpoints/        unfinished and finished fits, by what decides their weights
      feature_store/      Feast's registry, offline Parquet, the SQLite online store, the serving schema
      catalogue           link to the catalogue that serving reads; its versions lie in catalogue.versions/
      decisions/          shipped segments of the decision log; days/ holds what was compacted of each day
      events/             shipped segments of the log of events (`recommender.events.log`)
      serving/            private files of one serving replica, unless `serving.state` names another folder
      monitoring/         the last report of `recommender monitor`: JSON, page, metrics
      published/          results of runs under fixed names, for people and for later commands
      validated/          figures and statistics of the last valid tables of each source, which the next run is
                          compared with; beside them its good runs, verdicts and accepted changes
      days/               daily partitions of the log of events, a folder for each source (`recommender.days`)
      last_features/      rows of the last build of each source, which the next one takes over
                          (`recommender.features.last_build`)
      ids/                numbers of items and axis values, a file for each source (`recommender.storage.ids`)
      runs/               arguments, specification and step logs of each local run
      kfp/                artifacts and step cache of the local pipeline runner; nothing else reads them
      tuning/             studies of `recommender tune`
      own/                a home for each mapping that was given with --data
      bench/              files of `make bench-…`
      forgotten.json      salted hashes of the users that `recommender forget` removed (`recommender.storage.forgotten`)
      .in-use             locked by whoever reads what `recommender clean` may remove (`recommender.storage.in_use`)

These classes only name paths and neither read nor write. Another module owns the format of each folder's content:
`recommender.registry` that of registry/, `recommender.decisions.log` that of decisions/, and so on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from recommender.settings import Settings
from recommender.storage.manifest import NAME_DIGITS, digest

USERS_FILE = "users.parquet"
PACKED_USERS_FILE = "serving.parquet"
REFERENCE_FILE = "reference.json"
"""Distributions of features, in a training set and in a trained version (`recommender.monitoring.reference`)."""
FEATURES_SCHEMA_FILE = "schema.json"
"""In a feature set: names of its features and of those that the source cannot have."""
FACTS_FILE = "facts.parquet"
OWN = "own"
"""Folder of the homes of shops' own data, in a home."""


@dataclass(frozen=True)
class FeatureStoreFolder:
    """The feature store. `root` also holds the serving schema (`recommender.matching.packed_user.ServingSchema`)."""

    root: Path

    @property
    def offline(self) -> Path:
        """Folder of Parquet files that Feast reads for training."""
        return self.root / "offline"

    @property
    def users(self) -> Path:
        """Every user's features at each moment for which they were built."""
        return self.offline / USERS_FILE

    @property
    def schema(self) -> Path:
        """Names of all features, and of those that the source cannot have."""
        return self.offline / FEATURES_SCHEMA_FILE

    @property
    def facts(self) -> Path:
        """What people ask about each user (`recommender.features.facts`). No ranker reads it."""
        return self.offline / FACTS_FILE

    @property
    def packed_users(self) -> Path:
        """Each user's newest features as the one packed value that serving reads."""
        return self.offline / PACKED_USERS_FILE

    @property
    def online_database(self) -> Path:
        """SQLite file of the online store, where the online store is SQLite."""
        return self.root / "online.db"

    @property
    def feast_registry(self) -> Path:
        """Feast's own registry file."""
        return self.root / "registry.db"

    @property
    def event_tails(self) -> Path:
        """SQLite file with the events that came after users' rows, where the online store is SQLite."""
        return self.root / "events.db"

    @property
    def events_read(self) -> Path:
        """Which segments of events the materialised rows have read (`recommender.events.tail.Readings`)."""
        return self.root / "events_read.json"

    @property
    def lock(self) -> Path:
        """Held while a materialisation runs."""
        return self.root / ".lock"


@dataclass(frozen=True)
class ServingState:
    """The private files of one serving replica."""

    root: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The state folder of these settings: `serving.state`, or the one below `home`."""
        return cls(settings.serving.state or Home.of(settings).root / "serving")

    @property
    def settings_file(self) -> Path:
        """Settings as the parent process hands them to its children."""
        return self.root / "settings.json"

    @property
    def deployed(self) -> Path:
        """File with the versions that answer now: written by the deployer, followed by the gateway."""
        return self.root / "deployed.json"

    @property
    def wire_key(self) -> Path:
        """The bytes by which a worker knows its gateway (`serving.wire_key`)."""
        return self.root / "wire.key"

    @property
    def wanted(self) -> Path:
        """Versions that the deployer wants the gateway to load itself (engine `in_process`)."""
        return self.root / "wanted.json"

    @property
    def loaded(self) -> Path:
        """What became of them, as the gateway says. Touched every second."""
        return self.root / "loaded.json"

    @property
    def health(self) -> Path:
        """Folder with a file for each gateway process, about the versions that it found sick."""
        return self.root / "health"

    @property
    def deployer_alive(self) -> Path:
        """Touched by the deployer at every round. Kubernetes' liveness probe looks at its age."""
        return self.root / "deployer.alive"

    @property
    def model_store(self) -> Path:
        """Archives that TorchServe loads."""
        return self.root / "model_store"

    @property
    def torchserve_properties(self) -> Path:
        """TorchServe's configuration file."""
        return self.root / "torchserve.properties"

    @property
    def decisions(self) -> Path:
        """Segments of the decision log that are not shipped yet, unless `decision_log.folder` names another folder."""
        return self.root / "decisions"

    @property
    def events(self) -> Path:
        """Segments of the log of events that are not shipped yet, unless `events.folder` names another folder."""
        return self.root / "events"

    @property
    def logs(self) -> Path:
        """Folder of the processes' logs."""
        return self.root / "logs"

    def log(self, process: str) -> Path:
        """Structured log of `process`: gateway or torchserve (with the lines of TorchServe's workers)."""
        return self.logs / f"{process}.log"

    def output(self, process: str) -> Path:
        """File with the output of `process` beside its log, such as the error that kept it from starting."""
        return self.logs / f"{process}.out"

    def pid_file(self, process: str) -> Path:
        """File that names the running `process`: gateway or torchserve."""
        return self.root / f"{process}.pid"


@dataclass(frozen=True)
class RunFolder:
    """Files of one local run of a pipeline. `root.name` is the run's id."""

    root: Path

    @property
    def specification(self) -> Path:
        """The compiled pipeline."""
        return self.root / "pipeline.yaml"

    @property
    def arguments(self) -> Path:
        """The run's parameters, as JSON."""
        return self.root / "arguments.json"

    @property
    def figures(self) -> Path:
        """Steps with time and memory, as JSON."""
        return self.root / "run.json"

    def log(self, step: str, number: int) -> Path:
        """Log of a step. `number`: how many steps of this name the run had before."""
        return self.root / (f"{step}-{number}.log" if number else f"{step}.log")


@dataclass(frozen=True)
class Published:
    """Results of runs under fixed names, written whole by `recommender.storage.published`."""

    root: Path

    @property
    def training_set(self) -> Path:
        """Folder of the last run's training set."""
        return self.root / "training-set"

    @property
    def evaluation(self) -> Path:
        """Folder of the last run's evaluation document."""
        return self.root / "evaluation"

    @property
    def verdict(self) -> Path:
        """The gate's last verdict, as JSON."""
        return self.root / "verdict.json"

    @property
    def validation_page(self) -> Path:
        """HTML: whether the last run's tables were valid, and what failed."""
        return self.root / "validation.html"

    @property
    def training_page(self) -> Path:
        """HTML: the curves of the last run's challenger."""
        return self.root / "training.html"

    @property
    def evaluation_page(self) -> Path:
        """HTML: the last run's evaluation."""
        return self.root / "evaluation.html"

    @property
    def everything(self) -> tuple[Path, ...]:
        """All of the above."""
        folders = (self.training_set, self.evaluation, self.verdict)
        return (*folders, self.validation_page, self.training_page, self.evaluation_page)

    def origin(self, published: Path) -> Path:
        """JSON file that names the run and the data from which `published`, one of the above, came."""
        return self.root / "origins" / f"{published.name}.json"


@dataclass(frozen=True)
class MonitoringFolder:
    """The last report of monitoring, each file written whole."""

    root: Path

    @property
    def report(self) -> Path:
        """The findings and the figures behind them, as JSON."""
        return self.root / "report.json"

    @property
    def page(self) -> Path:
        """HTML: the same for people."""
        return self.root / "monitoring.html"

    @property
    def metrics(self) -> Path:
        """The figures in Prometheus' text format, for a textfile collector."""
        return self.root / "metrics.prom"


@dataclass(frozen=True)
class Home:
    """The folder that outlives a run, on a cluster a mounted volume."""

    root: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The home that the settings name."""
        return cls(settings.home)

    @property
    def registry(self) -> Path:
        """Folder of the registry of trained versions."""
        return self.root / "registry"

    @property
    def catalogue(self) -> Path:
        """Link to the folder of the catalogue in use."""
        return self.root / "catalogue"

    @property
    def catalogue_versions(self) -> Path:
        """Folder of the catalogues to which `catalogue` links or linked."""
        return self.root / "catalogue.versions"

    @property
    def decisions(self) -> Path:
        """Folder of the decision log's shipped segments."""
        return self.root / "decisions"

    @property
    def text_vectors(self) -> Path:
        """Folder of the text encoder's vectors of items' names and of searches, by the hash of their words."""
        return self.root / "text_vectors"

    @property
    def decision_days(self) -> Path:
        """Folder with a folder for each compacted day of the decision log."""
        return self.decisions / "days"

    @property
    def events(self) -> Path:
        """Folder of the shipped segments of the log of events."""
        return self.root / "events"

    @property
    def feature_store(self) -> FeatureStoreFolder:
        """The feature store."""
        return FeatureStoreFolder(self.root / "feature_store")

    @property
    def published(self) -> Published:
        """Results of runs for people and for later commands."""
        return Published(self.root / "published")

    @property
    def monitoring(self) -> MonitoringFolder:
        """The last report of monitoring."""
        return MonitoringFolder(self.root / "monitoring")

    @property
    def runs(self) -> Path:
        """Folder of the local runs of a pipeline."""
        return self.root / "runs"

    def run(self, run_id: str) -> RunFolder:
        """Files of one local run of a pipeline."""
        return RunFolder(self.runs / run_id)

    def run_artifacts(self, run_id: str) -> Path:
        """Folder of the artifacts of one local run of a pipeline."""
        return self.pipeline_artifacts / run_id

    @property
    def pipeline_artifacts(self) -> Path:
        """Folder in which the local pipeline runner keeps its artifacts."""
        return self.root / "kfp"

    @property
    def pipeline_cache(self) -> Path:
        """Folder in which the local pipeline runner remembers finished steps."""
        return self.pipeline_artifacts / "cache"

    @property
    def checkpoints(self) -> Path:
        """Folder of all fits' checkpoints and bundles."""
        return self.root / "checkpoints"

    def checkpoint(self, name: str) -> Path:
        """Folder of one fit's checkpoints and bundle."""
        return self.checkpoints / name

    def validated(self, source: str) -> Path:
        """Folder with the figures of the last valid tables of a source. `source`: a hash of its settings."""
        return self.root / "validated" / source

    def validation_record(self, source: str) -> Path:
        """Folder with a source's good runs, verdicts and accepted changes. `source`: a hash of its settings."""
        return self.root / "validated" / f"{source}.record"

    def ids(self, source: str) -> Path:
        """File with the append-only numbers of a source's items. `source`: a hash of its settings."""
        return self.root / "ids" / f"{source}.json"

    def days(self, source: str) -> Path:
        """Folder with the daily partitions of a source's events. `source`: a hash of its settings."""
        return self.root / "days" / source

    @property
    def last_builds(self) -> Path:
        """Folder with a folder for each source, see `last_features`."""
        return self.root / "last_features"

    def last_features(self, source: str) -> Path:
        """Folder with what the last build of a source's features made. `source`: a hash of its settings."""
        return self.last_builds / source

    @property
    def of_sources(self) -> tuple[Path, ...]:
        """Folders with a folder for each source, of what the next run of this source makes again."""
        return (self.root / "days", self.last_builds)

    def study(self, name: str) -> Path:
        """SQLite file of a search for hyperparameters."""
        return self.root / "tuning" / f"{name}.db"

    def own(self, name: str) -> "Home":
        """The home of a shop's own data."""
        return Home(self.root / OWN / name)

    @property
    def is_own(self) -> bool:
        """Whether this is a home that `own` names."""
        return self.root.parent.name == OWN

    @property
    def in_use(self) -> Path:
        """File that is locked while a pipeline, a training or a materialisation runs."""
        return self.root / ".in-use"

    @property
    def forgotten(self) -> Path:
        """File with the users that were removed, by salted hashes."""
        return self.root / "forgotten.json"

    @property
    def forgetting(self) -> Path:
        """File with ids of events that a `forget` must still remove from the online store. Gone once it has."""
        return self.root / "forgetting.json"

    @property
    def removing(self) -> Path:
        """What `clean` and `forget` lock to take turns (`recommender.storage.turns`)."""
        return self.root / "removing"

    @property
    def of_others(self) -> tuple[Path, ...]:
        """Folders below this home that hold other shops: homes of own data, and those of benchmarks."""
        return (self.root / OWN, self.root / "bench")

    def benchmark(self, name: str) -> Path:
        """Folder that one benchmark keeps between its runs."""
        return self.root / "bench" / name


def source_name(settings: Settings) -> str:
    """Names the source of these settings below `home`."""
    return digest(settings.source.model_dump(mode="json"))[:NAME_DIGITS]
