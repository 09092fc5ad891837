"""Write a pipeline as files: for the local runner, for a KFP endpoint, and as Kubernetes resources for GitOps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from components.check_settings.rules import check_rules
from pipelines.cluster import HOME, Cluster, check_names
from pipelines.named import TRAINING, NamedPipeline
from recommender.errors import SettingsError
from recommender.settings import Settings
from recommender.storage.code_identity import bare_code
from recommender.storage.manifest import SHOWN_DIGITS, sha256

STEP_CODE = "from kfp.dsl import *"
"""A line in the code that KFP generates around a step's function."""


def compile_local(settings: Settings, file: Path, *, run: str, pipeline: str = TRAINING) -> None:
    """Write the pipeline for this machine to `file`: no volume, and no retries, because no pod can be lost here.

    Args:
        settings: the settings of the run. Parameters have their values as defaults.
        file: the YAML to write.
        run: the run id that published files record.
        pipeline: which one, as people type it.

    Raises:
        SettingsError: there is no such pipeline.
    """
    from kfp.compiler import Compiler

    made = NamedPipeline(pipeline).of(settings, retries=0, run=run)
    file.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(made, str(file))
    drop_comments_of_steps(file)


def compile_cluster(
    settings: Settings, folder: Path, *, cluster: Cluster, namespace: str, pipeline: str = TRAINING
) -> tuple[Path, Path]:
    """Write the pipeline for a cluster: its YAML for `kfp`, and Pipeline and PipelineVersion resources.

    Args:
        settings: the settings of the pipeline's runs. Parameters have their values as defaults.
        folder: the folder for both files.
        cluster: names and settings of the steps' pods.
        namespace: namespace of the resources.
        pipeline: which one, as people type it. The files' names begin with it.

    Returns:
        The two files.

    Raises:
        SettingsError: there is no such pipeline, `home` is not on the volume that outlives a run, or the settings are
            wrong; names the key.
    """
    from kfp.compiler import Compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    named = NamedPipeline(pipeline)
    # The judgement file is not read: it lies on the cluster.
    check_rules(settings, feature_store=cluster.pods.feature_store)
    check_names(namespace=namespace, registry=cluster.registry)
    if not settings.home.is_relative_to(HOME):
        raise SettingsError(
            f"home = {settings.home}: on a cluster it must lie on the volume at {HOME}; "
            "compile with the cluster's settings, e.g. --settings k8s/base/recommender.toml"
        )
    folder.mkdir(parents=True, exist_ok=True)
    made, file, resources = (
        named.of(settings, cluster=cluster),
        folder / f"{pipeline}.yaml",
        folder / f"{pipeline}-resources.yaml",
    )
    Compiler().compile(made, str(file))
    drop_comments_of_steps(file)
    options = KubernetesManifestOptions(
        pipeline_name=named.name,
        pipeline_display_name=named.title,
        pipeline_version_name=version_name(named.name, file),
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    Compiler().compile(
        made,
        str(resources),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=options,
    )
    drop_comments_of_steps(resources)
    return file, resources


def version_name(pipeline: str, file: Path) -> str:
    """The name of a pipeline's version, by the digest of the whole compiled file: steps, images, defaults, pods.

    A PipelineVersion's spec cannot be changed, so another spec needs another name.
    """
    return f"{pipeline}-{sha256(file)[:SHOWN_DIGITS]}"


def drop_comments_of_steps(file: Path) -> None:
    """Rewrite the steps' code in a compiled file without comments, docstrings and formatting.

    KFP puts the source of each step's function into the step's command, and the command is part of the cache key: a
    comment in a component would run the step again.
    """
    text = file.read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    documents = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    for document in documents:
        for command in _commands_of_steps(document):
            command[:] = [bare_code(word) if STEP_CODE in word else word for word in command]
    # 1000 columns, so that yaml folds no line.
    file.write_text(header + yaml.safe_dump_all(documents, sort_keys=True, width=1000), encoding="utf-8")


def _commands_of_steps(part: Any) -> Iterator[list[str]]:
    """The command of every step's container, wherever it is nested."""
    if isinstance(part, dict):
        command = part.get("command")
        if isinstance(command, list):
            yield command
        for inner in part.values():
            yield from _commands_of_steps(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _commands_of_steps(inner)
