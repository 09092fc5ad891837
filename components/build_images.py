"""Builds the images, labels them, pushes them and writes their digests: what `make images` runs.

    python -m components.build_images REGISTRY --engine podman [--gpu] [--spark] [--push] …

Standard library only: a machine that builds images needs no environment of ours.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from components.images import (
    DIGESTS,
    PIPELINE_GPU_IMAGE,
    PIPELINE_IMAGE,
    PIPELINE_SPARK_IMAGE,
    SERVING_IMAGE,
    VERSION,
    in_registry,
)

ROOT = Path(__file__).parents[1]
LABEL = "org.opencontainers.image."
"""Prefix of the OCI's own keys: https://github.com/opencontainers/image-spec/blob/main/annotations.md"""


@dataclass(frozen=True)
class Build:
    """An image under its name of components/images.py, with what builds it."""

    image: str
    dockerfile: str
    target: str
    title: str


BUILDS = (
    Build(PIPELINE_IMAGE, "components/Dockerfile", "cpu", "Campaign recommender: pipeline steps"),
    Build(SERVING_IMAGE, "serving/Dockerfile", "serving", "Campaign recommender: gateway, TorchServe, deployer"),
)
GPU_BUILD = Build(PIPELINE_GPU_IMAGE, "components/Dockerfile", "gpu", "Campaign recommender: pipeline steps on a GPU")
SPARK_BUILD = Build(PIPELINE_SPARK_IMAGE, "components/Dockerfile", "spark", "Campaign recommender: features on Spark")


def labels(title: str, *, root: Path = ROOT) -> dict[str, str]:
    """OCI labels of an image built from `root`. What git or pyproject.toml does not say is left out."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    revision = _git(root, "rev-parse", "HEAD")
    if revision and _git(root, "status", "--porcelain", "--untracked-files=no"):
        revision += "-modified"
    found = {
        "title": title,
        "description": str(project["description"]),
        "version": VERSION,
        "revision": revision,
        "source": web_address(_git(root, "config", "--get", "remote.origin.url")),
        "licenses": str(project.get("license", "")),
    }
    return {LABEL + key: value for key, value in found.items() if value}


def web_address(remote: str) -> str:
    """A git remote as an address without user and password. Empty: it is a folder of some machine."""
    if found := re.fullmatch(r"(?:[\w.-]+@)?([\w.-]{2,}):([\w-][\w./-]*)", remote):  # git@host:owner/name
        return f"https://{found[1]}/{found[2]}"
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https", "ssh") or not parts.hostname:
        return ""
    return f"https://{parts.hostname}{parts.path}"


def build(engine: str, one: Build, registry: str, arguments: list[str]) -> str:
    """Build an image and return its name in `registry`.

    Raises:
        CalledProcessError: The engine refused; its own output says why.
    """
    name = in_registry(one.image, registry)
    command = [engine, "build", "-t", name, "-f", one.dockerfile, "--target", one.target]
    for key, value in labels(one.title).items():
        command += ["--label", f"{key}={value}"]
    print(f"building {name}", flush=True)
    subprocess.run([*command, *arguments, "."], check=True, cwd=ROOT)
    return name


def push(engine: str, name: str, arguments: list[str]) -> str:
    """Push an image and return the digest under which the registry has it.

    Raises:
        CalledProcessError: The engine refused; its own output says why.
    """
    print(f"pushing {name}", flush=True)
    if "podman" in subprocess.run([engine, "--version"], check=True, capture_output=True, text=True).stdout:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "digest"
            subprocess.run([engine, "push", "--digestfile", str(file), *arguments, name], check=True)
            return file.read_text(encoding="utf-8").strip()
    done = subprocess.run([engine, "push", *arguments, name], check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    found = re.findall(r"digest: (sha256:[0-9a-f]{64})", done.stdout)
    if not found:
        raise SystemExit(f"{engine} push {name}: its output names no digest")
    return str(found[-1])


def write_digests(pushed: dict[str, tuple[str, str]], file: Path) -> None:
    """Write a kustomize component that replaces the images by what was pushed.

    Args:
        pushed: name of components/images.py -> the name that was pushed, its digest.
        file: the kustomization.yaml.
    """
    lines = [
        "# Written by `make images PUSH=1`: the images as they were pushed. The compiler reads it too. List it last",
        "# among an overlay's components.",
        "apiVersion: kustomize.config.k8s.io/v1alpha1",
        "kind: Component",
        "images:" if pushed else "images: []",
    ]
    for image, (name, digest) in sorted(pushed.items()):
        lines += [f"  - name: {_without_tag(image)}", f"    newName: {_without_tag(name)}", f"    digest: {digest}"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(words: list[str]) -> None:
    """Build what the command line asks for, and push it."""
    parser = argparse.ArgumentParser(prog="python -m components.build_images", description=__doc__)
    parser.add_argument("registry")
    parser.add_argument("--engine", required=True, help="docker, podman, or a program that takes their arguments")
    parser.add_argument("--gpu", action="store_true", help="build the pipeline image for GPUs too")
    parser.add_argument("--spark", action="store_true", help="build the image for features on Spark too")
    parser.add_argument("--push", action="store_true", help=f"push, and write the digests to {DIGESTS}")
    parser.add_argument("--build-args", type=shlex.split, default=[], help="more arguments for `build`")
    parser.add_argument("--push-args", type=shlex.split, default=[], help="more arguments for `push`")
    asked = parser.parse_args(words)
    try:
        builds = [*BUILDS, *([GPU_BUILD] if asked.gpu else []), *([SPARK_BUILD] if asked.spark else [])]
        names = {one.image: build(asked.engine, one, asked.registry, asked.build_args) for one in builds}
        if asked.push:
            pushed = {image: (name, push(asked.engine, name, asked.push_args)) for image, name in names.items()}
            write_digests(pushed, ROOT / DIGESTS)
            print(f"wrote {DIGESTS}")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{shlex.join(map(str, error.cmd[:2]))} ended with exit code {error.returncode}") from None


def _without_tag(name: str) -> str:
    return name.rpartition(":")[0]


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    main(sys.argv[1:])
