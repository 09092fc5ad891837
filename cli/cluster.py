"""`compile` and `submit`: the pipeline leaves for a cluster."""

import tempfile
from pathlib import Path

from pipelines.cluster import Cluster
from pipelines.compile import compile_cluster, run_arguments
from recommender.settings import Settings


def _cluster(registry: str) -> Cluster:
    return Cluster(registry=registry) if registry else Cluster()


def compile_to(settings: Settings, folder: Path, *, namespace: str, registry: str, source_identity: str) -> None:
    """Write the pipeline's files and say where they are."""
    files = compile_cluster(
        settings, folder, cluster=_cluster(registry), namespace=namespace, source_identity=source_identity
    )
    print(f"{files[0]}: for a KFP endpoint (recommender submit, or the UI's upload)")
    print(f"{files[1]}: Pipeline and PipelineVersion resources (kubectl apply -f)")


def submit_to(
    settings: Settings, *, host: str, namespace: str, experiment: str, registry: str, source_identity: str
) -> None:
    """Compile, start a run at `host`, and say where to watch it."""
    from pipelines.submit import submit

    with tempfile.TemporaryDirectory() as folder:
        pipeline, _ = compile_cluster(
            settings, Path(folder), cluster=_cluster(registry), namespace=namespace, source_identity=source_identity
        )
        arguments = run_arguments(settings, source_identity)
        print(submit(pipeline, arguments, host=host, namespace=namespace, experiment=experiment))
