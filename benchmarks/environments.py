"""Separate virtual environments for the libraries that are compared with ours, and processes in them."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from recommender.errors import RecommenderError
from recommender.settings import load_settings
from recommender.storage.home import Home

PEERS: dict[str, tuple[str, ...]] = {
    "replay": ("replay-rec[torch]==0.22.0",),
    "rectools": ("rectools[torch]==0.19.0",),
    # RecBole 1.2.1 names types that NumPy 2 and pandas 3 no longer have, and imports ray, which wants pkg_resources.
    "recbole": ("recbole==1.2.1", "numpy<2", "pandas<2.3", "scipy<1.14", "setuptools<81"),
}
"""What pip installs for each besides our own release of torch. Pinned, so that a row can be measured again."""


def python_of(peer: str) -> Path:
    """The Python of a peer's environment, which is created on first use.

    The environment variable `PIP_ARGS` has more words for pip, as for `make install`.

    Args:
        peer: One of `PEERS`.

    Raises:
        RecommenderError: It cannot be installed; the message is the first line that pip marked as an error.
    """
    environment = (Home.of(load_settings()).benchmark("peers") / peer).resolve()
    python, done = environment / "bin" / "python", environment / ".installed"
    wanted = "\n".join((*PEERS[peer], f"torch=={torch.__version__.split('+')[0]}"))
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return python
    _run([sys.executable, "-m", "venv", str(environment)])
    words = shlex.split(os.environ.get("PIP_ARGS", ""))
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words, *wanted.splitlines()])
    done.write_text(wanted, encoding="utf-8")
    return python


def answer_of(command: list[str], folder: Path) -> dict[str, Any]:
    """Run a process with one thread and no GPU in `folder`, and parse the last line that it prints as JSON.

    Raises:
        RecommenderError: It failed; the message is the last line of its error output.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RecommenderError((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _run(command: list[str]) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        lines = answer.stderr.splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit code {answer.returncode}"]
        raise RecommenderError(errors[0])
