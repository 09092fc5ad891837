"""Spark's own spark-submit makes of the SparkApplication a driver's pod that the image runs and the manifests bound."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kubernetes_api import KubernetesApi
from kustomized import ROOT, named, rendered_resources
from spark_operator import complete, submission

from recommender.features.spark.java import environment

SPARK_HOME = ROOT / ".venv-spark" / "lib" / "python3.11" / "site-packages" / "pyspark"
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
"""Spares the time of Java's compilers."""


@pytest.mark.slow
def test_spark_submit_makes_the_driver_s_pod_that_the_entrypoint_runs(tmp_path: Path) -> None:
    if not SPARK_HOME.is_dir():
        pytest.skip("needs .venv-spark, which `make test` makes")
    application = named(
        rendered_resources(tmp_path / "k8s", "profile", "spark"), "SparkApplication", "campaign-features"
    )
    with KubernetesApi().serving() as api:
        done = subprocess.run(
            [str(SPARK_HOME / "bin" / "spark-submit"), *submission(application, master=api.url)],
            env={
                "PATH": os.defpath,
                "HOME": str(tmp_path),
                "SPARK_HOME": str(SPARK_HOME),
                "SPARK_LOCAL_IP": "127.0.0.1",
                "SPARK_SUBMIT_OPTS": JAVA,
                **{"JAVA_HOME": os.environ.get("JAVA_HOME", ""), **environment(tmp_path / "java")},
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-5000:]
    (pod,) = api.objects["pods"].values()
    complete(pod, application)
    (container,) = pod["spec"]["containers"]

    spec = application["spec"]
    word, *words = container["args"]
    script = (ROOT / "components" / "spark" / "entrypoint.sh").read_text()
    assert "command" not in container, "the image's entrypoint runs"
    assert re.search(rf"^  {word}\)$", script, re.MULTILINE)
    assert words[-3:] == [spec["mainApplicationFile"], *spec["arguments"]]

    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env.keys() >= {"SPARK_DRIVER_BIND_ADDRESS", "RECOMMENDER_SETTINGS"}
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    assert len(mounts) == len(container["volumeMounts"]) == len(volumes), "nothing is mounted twice"
    assert mounts[env["SPARK_LOCAL_DIRS"]].startswith("spark-local-dir-")
    assert all(one["emptyDir"]["sizeLimit"] for one in volumes.values() if "emptyDir" in one)
    (conf,) = api.objects["configmaps"].values()
    assert "spark.executor.instances=2" in conf["data"]["spark.properties"].splitlines()


def test_every_user_can_run_the_java_that_an_image_makes_as_root(tmp_path: Path) -> None:
    """As `components/Dockerfile` makes it: in a process of its own, with the umask of the image."""
    command = [sys.executable, "-m", "recommender.features.spark.java", str(tmp_path / "java")]
    subprocess.run(command, cwd=ROOT, umask=0o027, check=True)
    for path in (tmp_path / "java", tmp_path / "java" / "bin", tmp_path / "java" / "bin" / "java"):
        assert path.stat().st_mode & 0o777 == 0o755
