"""`compile` and `submit`: the pipeline for a cluster."""

import tempfile
from pathlib import Path

from components.check_settings.parameters import defaults
from pipelines.cluster import Cluster
from pipelines.compile import compile_cluster
from recommender.settings import Settings


def _cluster(settings: Settings, registry: str, feature_store: str) -> Cluster:
    return Cluster.of(settings.cluster, registry=registry, feature_store=feature_store)


def compile_to(settings: Settings, folder: Path, *, namespace: str, registry: str, feature_store: str) -> None:
    """Write the pipeline's files, and print where they are."""
    files = compile_cluster(
        settings,
        folder,
        cluster=_cluster(settings, registry, feature_store),
        namespace=namespace,
    )
    print(f"{files[0]}: for a KFP endpoint (recommender submit, or the UI's upload)")
    print(f"{files[1]}: Pipeline and PipelineVersion resources (kubectl apply -f)")


def submit_to(
    settings: Settings,
    *,
    host: str,
    namespace: str,
    experiment: str,
    registry: str,
    feature_store: str,
    service_account: str,
) -> None:
    """Compile, start a run at `host`, and print where to watch it."""
    from pipelines.submit import submit

    with tempfile.TemporaryDirectory() as folder:
        pipeline, _ = compile_cluster(
            settings,
            Path(folder),
            cluster=_cluster(settings, registry, feature_store),
            namespace=namespace,
        )
        page = submit(
            pipeline,
            defaults(settings),
            host=host,
            namespace=namespace,
            experiment=experiment,
            service_account=service_account or None,
        )
        print(page)
