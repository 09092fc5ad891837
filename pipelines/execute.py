"""Run one compiled pipeline with `kfp.local`.

    python -m pipelines.execute SPECIFICATION ARGUMENTS ROOT [CACHE]

`pipelines.local` starts it as a separate process and reads its output.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path


def execute(specification: Path, arguments: Path, *, root: Path, cache: Path | None) -> None:
    """Run a compiled pipeline.

    Args:
        specification: the pipeline's YAML.
        arguments: JSON file with its parameters.
        root: folder for the artifacts of this run.
        cache: folder of the cache of finished steps. None: nothing is cached.

    Raises:
        RuntimeError: a step failed. Its output was printed before.
    """
    os.environ.setdefault("PYTHONWARNINGS", "ignore::RuntimeWarning:kfp.local")
    warnings.filterwarnings("ignore", module="kfp.local")
    from kfp import components, local

    # kfp.local logs the steps that it runs by itself, but a cache hit only where logging is on.
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s - %(levelname)s - %(message)s")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        enable_caching=cache is not None,
        cache_root=None if cache is None else str(cache),
    )
    pipeline = components.load_component_from_file(str(specification))
    try:
        pipeline(**json.loads(arguments.read_text(encoding="utf-8")))
    finally:
        _give_every_artifact_a_file(root)


def _give_every_artifact_a_file(root: Path) -> None:
    """Touch the files that artifacts of this run name but lack, so that their steps can be cached.

    Metrics live in an artifact's metadata only, and kfp.local runs a cached step again when an artifact of it has no
    file.
    """
    # `root` belongs to this run alone. kfp.local writes one such file for each step, some levels below it.
    for written in root.glob("**/executor_output.json"):
        output = json.loads(written.read_text(encoding="utf-8"))
        for artifacts in output.get("artifacts", {}).values():
            for artifact in artifacts["artifacts"]:
                path = Path(artifact["uri"])
                if path.is_relative_to(root) and not path.exists():
                    path.touch()


if __name__ == "__main__":
    specification, arguments, root, *cache = map(Path, sys.argv[1:])
    try:
        execute(specification, arguments, root=root, cache=cache[0] if cache else None)
    except RuntimeError as error:
        sys.exit(str(error))
