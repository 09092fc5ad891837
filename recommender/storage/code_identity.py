"""Which code made a thing: the identity that versions, lineages and cache keys name."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from recommender.storage.manifest import digest, sha256

PATTERNS = ("*.py", "*.json", "*.yaml")


@cache
def code_version(packages: tuple[str, ...] = ("recommender",)) -> str:
    """Release and a short hash of the source files of `packages`: the same installed code says the same everywhere.

    A hash of the files, not of a commit: an image carries no repository, and a changed checkout is other code.
    """
    sources: dict[str, str] = {}
    for package in packages:
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            files = {path for pattern in PATTERNS for path in Path(root).rglob(pattern)}
            sources |= {f"{package}/{path.relative_to(root).as_posix()}": sha256(path) for path in sorted(files)}
    try:
        release = version("campaign-recommender")
    except PackageNotFoundError:
        release = "0"
    return f"{release}+{digest(sources)[:10]}"
