"""The Spark image builds what DuckDB builds: in one container, and as driver and executors of a SparkApplication."""

import copy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from equal_feature_sets import assert_equal_sets
from kustomized import Resources, named, rendered_resources
from node import Node
from servers import ObjectStore
from spark_pods import SparkPods

from components.build_images import SPARK_BUILD, build
from components.images import PIPELINE_SPARK_IMAGE, REGISTRY
from recommender.datasets import ingest
from recommender.datasets.places import Place
from recommender.datasets.tables import Tables
from recommender.features import build_as_set
from recommender.settings import load_settings
from recommender.storage.manifest import MANIFEST, read_manifest

HOME = "/var/recommender"
SHOP = """
[source]
dataset = "synthetic"
[source.synthetic]
num_users = 120
num_items = 60
num_campaigns = 12
num_categories = 5
days = 200
[looks]
encoder = false   # its package is no part of the image
"""


@pytest.fixture(scope="module")
def spark(engine: Engine) -> Engine:
    """The engine, once it has built the Spark image as `make images SPARK=1` does."""
    build(engine.program, SPARK_BUILD, REGISTRY, shlex.split(engine.build_args))
    return engine


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """A small shop's tables."""
    file = tmp_path_factory.mktemp("shop") / "recommender.toml"
    file.write_text(SHOP)
    return ingest(load_settings(file).source, file.parent / "tables")


@pytest.fixture(scope="module")
def expected(tables: Tables) -> Path:
    """The feature set that DuckDB builds of them."""
    folder = tables.folder.parent
    build_as_set(tables, folder / "expected", load_settings(folder / "recommender.toml"))
    return folder / "expected"


@pytest.fixture(scope="module")
def resources(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Resources:
    """What a person applies: the overlay `profile` with the component `spark`, and the small shop's settings."""
    found = rendered_resources(tmp_path_factory.mktemp("k8s"), "profile", "spark")
    data = named(found, "ConfigMap", settings_of(found))["data"]
    dataset = '[source]\ndataset = "complete_journey"\n'
    assert dataset in data["recommender.toml"]
    data["recommender.toml"] = data["recommender.toml"].replace(dataset, SHOP)
    return found


def settings_of(resources: Resources) -> str:
    """Name of the ConfigMap that the application mounts."""
    volumes = application_of(resources)["spec"]["volumes"]
    (found,) = (one["configMap"]["name"] for one in volumes if "configMap" in one)
    return str(found)


def application_of(resources: Resources) -> dict[str, Any]:
    return named(resources, "SparkApplication", "campaign-features")


def driver_of(resources: Resources, *argv: str, memory: str = "4Gi") -> dict[str, Any]:
    """A container as the driver's, that runs other words after the image's entrypoint."""
    spec = application_of(resources)["spec"]
    asked = spec["driver"]
    return {
        "name": "driver",
        "image": spec["image"],
        "args": list(argv),
        "env": asked["env"],
        "volumeMounts": asked["volumeMounts"],
        "securityContext": asked["securityContext"],
        "resources": {"limits": {"memory": memory}},
        "pod": {"volumes": spec["volumes"], "securityContext": asked["podSecurityContext"]},
    }


@pytest.fixture
def node(spark: Engine, resources: Resources, tmp_path: Path) -> Iterator[Node]:
    with Node(spark, tmp_path / "node", resources, {}, image=PIPELINE_SPARK_IMAGE) as one:
        yield one


def test_the_driver_s_command_builds_in_one_container_what_duckdb_builds(
    node: Node, resources: Resources, tables: Tables, expected: Path
) -> None:
    home = node.volume("recommender-home")
    shutil.copytree(tables.folder, home / "tables")
    spec = application_of(resources)["spec"]
    conf = [word for name, value in spec["sparkConf"].items() for word in ("--conf", f"{name}={value}")]
    asked = driver_of(
        resources,
        *("driver", "--master", "local[2]", *conf, spec["mainApplicationFile"]),
        *(f"--tables={HOME}/tables", f"--output={HOME}/features"),
    )
    asked["env"] = [*asked["env"], {"name": "SPARK_DRIVER_BIND_ADDRESS", "value": "127.0.0.1"}]
    node.output_of("driver", asked)
    node.output_of("open", driver_of(resources, "chmod", "-R", "a+rX", f"{HOME}/features"))
    assert_equal_sets(home / "features", expected)


def test_driver_and_executors_of_the_application_build_it_in_an_object_store(
    spark: Engine,
    resources: Resources,
    tables: Tables,
    expected: Path,
    bucket: str,
    object_store: ObjectStore,
    tmp_path: Path,
) -> None:
    stored, result = Place(f"s3://{bucket}/tables"), Place(f"s3://{bucket}/features")
    stored.write_folder(tables.folder)
    application = copy.deepcopy(application_of(resources))
    application["spec"]["arguments"] = [f"--tables={stored.location}", f"--output={result.location}"]
    keys = {"aws_access_key_id": object_store.access_key, "aws_secret_access_key": object_store.secret_key}
    credentials = "\n".join(["[default]", *(f"{name} = {value}" for name, value in keys.items())])
    where = {"AWS_ENDPOINT_URL": object_store.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    for role in ("driver", "executor"):
        application["spec"][role]["env"] += [{"name": name, "value": value} for name, value in where.items()]
    secrets = {"campaign-objects": {"credentials": credentials}}
    with Node(spark, tmp_path / "node", copy.deepcopy(resources), secrets, PIPELINE_SPARK_IMAGE, "host") as node:
        pods = SparkPods(node, application)
        code, called = pods.run()
    assert code == 0, pods.said
    executors = [one for one in pods.pods.values() if one["metadata"]["labels"]["spark-role"] == "executor"]
    assert len(executors) == application["spec"]["executor"]["instances"], pods.said
    for name in (MANIFEST, *read_manifest(expected)["files"]):
        result.read(name, tmp_path / "built")
    assert_equal_sets(tmp_path / "built", expected)
    assert called <= rights(named(resources, "Role", "campaign-spark"))
    assert set(pods.api.objects["pods"]) == {"campaign-features-driver"}, "the driver takes its executors away"


def rights(role: dict[str, Any]) -> set[tuple[str, str]]:
    """Verb and resource of each right of a Role."""
    return {(verb, of) for rule in role["rules"] for of in rule["resources"] for verb in rule["verbs"]}


def test_the_image_holds_nothing_but_declared_packages(spark: Engine) -> None:
    words = ("run", "--rm", "--network", "none", PIPELINE_SPARK_IMAGE, "python", "-m", "pip", "check")
    assert "No broken requirements" in spark.output(*words)
