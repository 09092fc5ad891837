"""Names of the images, defined only here for components, the compiler, `make images` and the manifests' tests.

A tag never moves, because it names a release. It is part of a cluster's cache key, so changed code needs a new VERSION.
"""

import sys

REGISTRY = "registry.example.com"
VERSION = "0.1.0"

PIPELINE_IMAGE = f"{REGISTRY}/campaign-recommender-pipeline:{VERSION}"
PIPELINE_GPU_IMAGE = f"{REGISTRY}/campaign-recommender-pipeline:{VERSION}-gpu"
SERVING_IMAGE = f"{REGISTRY}/campaign-recommender-serving:{VERSION}"

BUILDS: dict[str, tuple[str, str]] = {
    PIPELINE_IMAGE: ("components/Dockerfile", "cpu"),
    PIPELINE_GPU_IMAGE: ("components/Dockerfile", "gpu"),
    SERVING_IMAGE: ("serving/Dockerfile", ""),
}
"""Image -> the Dockerfile and the target that build it. An empty target is the last stage."""


def in_registry(image: str, registry: str) -> str:
    """The image's name under another registry: `make images REGISTRY=…` builds it, `compile --registry` uses it."""
    return image.replace(REGISTRY, registry.rstrip("/"), 1)


if __name__ == "__main__":
    for image, (dockerfile, target) in BUILDS.items():
        print(in_registry(image, sys.argv[1] if len(sys.argv) > 1 else REGISTRY), dockerfile, target)
