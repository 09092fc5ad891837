"""`make images PUSH=1` against a registry: what was pushed is what kustomize and the compiler name."""

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from engine import Engine
from kustomized import containers, kustomize, loaded, overlay_of
from typer.testing import CliRunner

from cli.main import app
from components.build_images import push, write_digests
from components.images import DIGESTS, PIPELINE_GPU_IMAGE, PIPELINE_IMAGE, SERVING_IMAGE, in_registry

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Address of an empty registry: Debian's package docker-registry."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs the program docker-registry (Debian's package of that name)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = tmp_path / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    settings.write_text(yaml.safe_dump({"version": "0.1", "storage": storage, "http": {"addr": address}}))
    with subprocess.Popen(
        [program, "serve", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            deadline = time.monotonic() + 20
            while _status(f"http://{address}/v2/") != 200:
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.05)
            yield address
        finally:
            server.terminate()


def test_kustomize_and_the_compiler_name_what_was_pushed(
    engine: Engine, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = f"{registry}/shop"
    # podman asks for TLS also at this machine's own address.
    arguments = ["--tls-verify=false"] if "podman" in engine.output("--version") else []
    pushed = {}
    for image in (PIPELINE_IMAGE, SERVING_IMAGE):
        name = in_registry(image, shop)
        (tmp_path / "context").mkdir(exist_ok=True)
        (tmp_path / "context" / "name").write_text(image)
        (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nCOPY name /\n")
        engine.output("build", "-t", name, str(tmp_path / "context"))
        pushed[image] = (name, push(engine.program, name, arguments))
        engine.output("rmi", name)
    digests = {name.rpartition(":")[0]: digest for name, digest in pushed.values()}
    assert len(set(digests.values())) == 2
    for name, digest in digests.items():
        assert _status(f"http://{registry}/v2/{name.removeprefix(registry + '/')}/manifests/{digest}") == 200

    own = overlay_of(tmp_path, "local", ["housekeeping", "digests"])
    write_digests(pushed, tmp_path / DIGESTS)
    rendered = kustomize(own)
    assert rendered.returncode == 0, rendered.stderr
    named = {one["image"] for one in containers(loaded(rendered.stdout)) if one["name"] != "redis"}
    assert named == {f"{name}@{digest}" for name, digest in digests.items()}

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["compile", "--registry", shop])
    assert done.exit_code == 0, done.output
    spec = next(yaml.safe_load_all((tmp_path / "dist" / "training.yaml").read_text()))
    images = {one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values()}
    pipeline = in_registry(PIPELINE_IMAGE, shop).rpartition(":")[0]
    places = spec["root"]["dag"]["tasks"]["check-settings"]["inputs"]["parameters"]["places"]
    by_device = places["runtimeValue"]["constant"]["devices"]
    # The challenger's image is chosen by the device of the run.
    assert {image for image in images if not image.startswith("{{")} == {f"{pipeline}@{digests[pipeline]}"}
    assert by_device["cpu"]["image"] == f"{pipeline}@{digests[pipeline]}"
    assert by_device["cuda"]["image"] == in_registry(PIPELINE_GPU_IMAGE, shop), "not pushed, so by its tag"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": MANIFESTS}), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
