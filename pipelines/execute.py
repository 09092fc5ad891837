"""Run one compiled pipeline with `kfp.local`, in a process of its own: `python -m pipelines.execute SPEC ARGUMENTS ROOT CACHE`.

Apart from `pipelines.local`, which watches it, because kfp.local prints everything to the process's own output.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path


def execute(spec: Path, arguments: Path, *, root: Path, cache: Path | None) -> None:
    """Run the pipeline of `spec` with `arguments` (JSON). `cache`: where finished steps are remembered; None: no caching.

    Raises:
        RuntimeError: a step failed; its own output came before.
    """
    os.environ.setdefault("PYTHONWARNINGS", "ignore::RuntimeWarning:kfp.local")
    warnings.filterwarnings("ignore", module="kfp.local")
    from kfp import components, local

    # kfp.local logs steps it runs by itself, but a cache hit only where logging is on.
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s - %(levelname)s - %(message)s")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        enable_caching=cache is not None,
        cache_root=None if cache is None else str(cache),
    )
    pipeline = components.load_component_from_file(str(spec))
    pipeline(**json.loads(arguments.read_text(encoding="utf-8")))


if __name__ == "__main__":
    spec, arguments, root, *cache = map(Path, sys.argv[1:])
    try:
        execute(spec, arguments, root=root, cache=cache[0] if cache else None)
    except RuntimeError as error:
        sys.exit(str(error))
