"""The compiled Pipeline and PipelineVersion are what Kubeflow's own CRDs demand."""

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipelines.cluster import Cluster
from pipelines.compile import compile_cluster
from recommender.settings import load_settings

ROOT = Path(__file__).parents[2]


def test_the_compiled_resources_satisfy_the_crds(tmp_path: Path) -> None:
    folder = os.environ.get("CRDS")
    if not folder:
        pytest.skip("no folder of CRDs was given: make manifests SHARED=…")
    schemas = {}
    for file in Path(folder, "kfp").glob("*.yaml"):
        for crd in yaml.safe_load_all(file.read_text()):
            for version in crd["spec"]["versions"]:
                key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                schemas[key] = version["schema"]["openAPIV3Schema"]
    settings = load_settings(ROOT / "k8s" / "base" / "recommender.toml")
    _, resources = compile_cluster(settings, tmp_path, cluster=Cluster(), namespace="campaigns")
    checked = {}
    for resource in yaml.safe_load_all(resources.read_text()):
        jsonschema.validate(resource, schemas[resource["apiVersion"], resource["kind"]])
        checked[resource["kind"]] = resource["metadata"]["namespace"]
    assert checked == {"Pipeline": "campaigns", "PipelineVersion": "campaigns"}
