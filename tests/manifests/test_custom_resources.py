"""Custom resources of overlays, components and examples satisfy their projects' CRDs: `make manifests SHARED=…`."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kustomized import ADDED, K8S, Resources, rendered_resources

Schemas = dict[tuple[str, str], dict[str, Any]]

EXPECTED = {
    "PrometheusRule": "monitoring",
    "ServiceMonitor": "monitoring",
    "ScaledObject": "autoscaling-keda",
    "Gateway": "gateway-api",
    "HTTPRoute": "gateway-api",
    "Certificate": "gateway-api",
    "SparkApplication": "spark",
}
"""Kind -> the component that holds it."""


FILES = ("prometheusrules", "servicemonitors", "scaledobjects", "gateways", "httproutes", "certificates", "profiles")
FILES += ("sparkapplications",)


class Loader(yaml.CSafeLoader):
    """Reads a plain `=`, which the CRDs of Prometheus hold, as text."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    folder = os.environ.get("CRDS")
    if not folder:
        pytest.skip("no folder of CRDs was given: make manifests SHARED=…")
    found: Schemas = {}
    for file in Path(folder).rglob("*.yaml"):
        if file.stem.rpartition("_")[2] in FILES:
            for crd in yaml.load_all(file.read_text(), Loader):
                for version in crd["spec"]["versions"]:
                    key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                    found[key] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: dict[str, Any], *, top: bool = True) -> dict[str, Any]:
    """The schema, in which a key that it does not name is an error, as under `kubectl apply --validate=strict`."""
    schema = deepcopy(schema)
    if "(?i)" in schema.get("pattern", ""):
        # Go takes a flag anywhere in a pattern, Python only in front.
        schema["pattern"] = "(?i)" + schema["pattern"].replace("(?i)", "")
    properties = schema.get("properties")
    if properties is not None:
        for key, inner in properties.items():
            properties[key] = inner if top and key == "metadata" else closed(inner, top=False)
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        schema["items"] = closed(schema["items"], top=False)
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = closed(schema["additionalProperties"], top=False)
    return schema


def checked(resources: Resources, schemas: Schemas) -> set[str]:
    """The kinds of all custom resources, each of which its schema accepts."""
    kinds = set()
    for one in resources:
        if (one["apiVersion"], one["kind"]) in schemas:
            jsonschema.validate(one, schemas[one["apiVersion"], one["kind"]])
            kinds.add(one["kind"])
    return kinds


@pytest.mark.parametrize("component", ADDED)
def test_custom_resources_of_a_component_satisfy_their_crds(component: str, schemas: Schemas, tmp_path: Path) -> None:
    kinds = checked(rendered_resources(tmp_path, "production", component), schemas)
    assert kinds == {kind for kind, of in EXPECTED.items() if of == component}


def test_the_example_of_a_profile_satisfies_its_crd(schemas: Schemas) -> None:
    (profile,) = yaml.safe_load_all((K8S / "examples" / "profile.yaml").read_text())
    assert checked([profile], schemas) == {"Profile"}


def test_a_misspelt_key_is_found(schemas: Schemas, tmp_path: Path) -> None:
    (scaler,) = (
        one for one in rendered_resources(tmp_path, "production", "autoscaling-keda") if one["kind"] == "ScaledObject"
    )
    scaler["spec"]["maxReplicas"] = scaler["spec"].pop("maxReplicaCount")
    with pytest.raises(jsonschema.ValidationError, match="maxReplicas"):
        checked([scaler], schemas)
