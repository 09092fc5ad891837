"""Names of the images, defined only here for components, the compiler, `make images` and the manifests' tests.

A tag never moves, because it names a release. It is part of a cluster's cache key, so changed code needs a new VERSION.
A digest, which `make images PUSH=1` writes down, names the content itself.
"""

from collections.abc import Mapping
from pathlib import Path

from recommender.errors import SettingsError

REGISTRY = "registry.example.com"
VERSION = "0.1.0"

PIPELINE_IMAGE = f"{REGISTRY}/campaign-recommender-pipeline:{VERSION}"
PIPELINE_GPU_IMAGE = f"{REGISTRY}/campaign-recommender-pipeline-gpu:{VERSION}"
PIPELINE_SPARK_IMAGE = f"{REGISTRY}/campaign-recommender-pipeline-spark:{VERSION}"
SERVING_IMAGE = f"{REGISTRY}/campaign-recommender-serving:{VERSION}"

DIGESTS = Path("k8s/components/digests/kustomization.yaml")
"""Where `make images PUSH=1` writes what it pushed: kustomize and the compiler read the same file."""


def in_registry(image: str, registry: str, digests: Mapping[str, str] | None = None) -> str:
    """The image's name under another registry, with its digest where `digests` (`read_digests`) has one for that name.

    `make images REGISTRY=…` builds it, `compile --registry` uses it.
    """
    name = image.replace(REGISTRY, registry.rstrip("/"), 1)
    repository, _, _ = name.rpartition(":")
    digest = (digests or {}).get(repository)
    return f"{repository}@{digest}" if digest else name


def read_digests(file: Path = DIGESTS) -> dict[str, str]:
    """Image names without a tag, as they were pushed, and their digests. Empty: there is no file, or nothing in it.

    Raises:
        SettingsError: an image of the file has no digest.
    """
    import yaml  # compilers have it; `make images` runs with the standard library alone

    if not file.is_file():
        return {}
    entries = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("images") or []
    found = {str(one.get("newName", one.get("name"))): str(one.get("digest", "")) for one in entries}
    for name, digest in found.items():
        if not digest.startswith("sha256:"):
            raise SettingsError(f"{file}: images: {name}: digest: must begin with 'sha256:' (got {digest!r})")
    return found
