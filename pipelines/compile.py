"""Write the pipeline as files: for the local runner, for a KFP endpoint, and as resources for GitOps."""

from pathlib import Path

from pipelines.cluster import Cluster
from recommender.errors import SettingsError
from recommender.settings import ServingSettings, Settings, TrainingSettings
from recommender.storage.code_identity import code_version

PIPELINE_FILE = "training.yaml"
RESOURCES_FILE = "training-resources.yaml"
STEPS_RUN = ("recommender", "feature_repo", "serving", "components")
"""The rooms whose code a step runs: a change in any of them makes cached results stale."""


def compile_local(settings: Settings, file: Path, *, identified_source: bool) -> Path:
    """The pipeline for this machine: no volume, no retries (a step fails for its inputs here, not for a lost pod)."""
    from kfp.compiler import Compiler

    from pipelines.training import training_pipeline_for

    file.parent.mkdir(parents=True, exist_ok=True)
    pipeline = training_pipeline_for(settings, identified_source=identified_source, retries=0)
    Compiler().compile(pipeline, str(file))
    return file


def compile_cluster(
    settings: Settings, folder: Path, *, cluster: Cluster, namespace: str, source_identity: str = ""
) -> tuple[Path, Path]:
    """The pipeline for a cluster: its YAML for `kfp`, and Pipeline and PipelineVersion resources; returns both files.

    Raises:
        SettingsError: `home` is not below the volume that outlives a run.
    """
    from kfp.compiler import Compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    from pipelines.training import NAME, TITLE, training_pipeline_for

    if not settings.home.is_relative_to(cluster.home):
        raise SettingsError(
            f"home = {settings.home}: on a cluster it must lie on the volume at {cluster.home}; "
            "compile with the cluster's settings, e.g. --settings k8s/base/recommender.toml"
        )
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = training_pipeline_for(settings, cluster=cluster, identified_source=bool(source_identity))
    arguments = run_arguments(settings, source_identity)
    Compiler().compile(pipeline, str(folder / PIPELINE_FILE), pipeline_parameters=arguments)
    options = KubernetesManifestOptions(
        pipeline_name=NAME,
        pipeline_display_name=TITLE,
        pipeline_version_name=f"{NAME}-{code_version(STEPS_RUN).replace('+', '-').replace('.', '-')}",
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    Compiler().compile(
        pipeline,
        str(folder / RESOURCES_FILE),
        pipeline_parameters=arguments,
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=options,
    )
    return folder / PIPELINE_FILE, folder / RESOURCES_FILE


def run_arguments(settings: Settings, source_identity: str) -> dict[str, str]:
    """The parameters of a run: together they name everything that a step's result depends on."""
    return {
        "settings": settings.model_dump_json(),
        "data_settings": _for_data(settings).model_dump_json(),
        "source_identity": source_identity,
        "code_version": code_version(STEPS_RUN),
    }


def _for_data(settings: Settings) -> Settings:
    """What the steps before training depend on: a new port or another ranker's dial makes no feature stale."""
    values = {name: getattr(settings, name) for name in ("home", "source", "time", "store")}
    return Settings.model_construct(
        **values,
        judgement=Path(),
        training=TrainingSettings(threads=settings.training.threads),
        serving=ServingSettings(),
    )
