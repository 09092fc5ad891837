"""A checkout of a commit with a separate virtual environment."""

import os
import subprocess
import sys
from pathlib import Path

COMMIT_DIGITS = 12
"""Digits of a commit in messages and names of folders. Git itself shows seven or a few more."""


class TreeError(Exception):
    """A commit or a checkout cannot be used. States the reason."""


def git(*words: str, at: Path | None = None) -> str:
    """The output of a git command.

    Raises:
        TreeError: it failed; holds its message.
    """
    done = subprocess.run(["git", *words], cwd=at, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TreeError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit_of(revision: str) -> str:
    """The full id of the commit that `revision` names in the repository of the current folder."""
    return git("rev-parse", "--verify", f"{revision}^{{commit}}")


def given_tree(folder: Path, commit: str, *, may_differ: bool) -> Path:
    """An existing checkout of `commit`. `may_differ`: it may have changes that are not committed.

    Raises:
        TreeError: it is of another commit, has changes, or its environment runs the code of another folder.
    """
    tree = folder.resolve()
    if (there := git("rev-parse", "HEAD", at=tree)) != commit:
        raise TreeError(f"{tree} is at {there[:COMMIT_DIGITS]}, not at {commit[:COMMIT_DIGITS]}")
    if changed(tree) and not may_differ:
        raise TreeError(f"{tree} has changes that are not committed, so it is not {commit[:COMMIT_DIGITS]}")
    _require_own_environment(tree)
    return tree


def changed(tree: Path) -> bool:
    """Whether tracked files differ from the commit, or there are new ones that git does not ignore."""
    return bool(git("status", "--porcelain", at=tree))


def make_tree(commit: str, folder: Path, pip_args: str) -> Path:
    """A git worktree of `commit` in `folder`, installed by its own Makefile (two minutes), or the one that is there.

    Raises:
        TreeError: the installation failed; names its log.
    """
    tree = folder.resolve()
    if not tree.exists():
        git("worktree", "add", "--detach", str(tree), commit)
    log = tree.with_name(f"{tree.name}-install.log")
    print(f"installing {commit[:COMMIT_DIGITS]} in {tree} …", flush=True)
    # The python that runs this script is of the right version; a virtual environment's own is as good for making
    # another.
    command = ["make", "install", f"PIP_ARGS={pip_args}", f"PYTHON={sys.executable}"]
    with log.open("w") as output:
        done = subprocess.run(command, cwd=tree, stdout=output, stderr=subprocess.STDOUT, env=clean(), check=False)
    if done.returncode != 0:
        raise TreeError(f"make install failed in {tree}; see {log}")
    return given_tree(tree, commit, may_differ=False)


def remove_tree(folder: Path) -> None:
    """Remove what `make_tree` made."""
    if folder.exists():
        git("worktree", "remove", "--force", str(folder.resolve()))


def clean(**more: str) -> dict[str, str]:
    """This process's environment without settings, import paths and an active environment."""
    foreign = ("RECOMMENDER", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKE", "MFLAGS")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **more}


def _require_own_environment(tree: Path) -> None:
    """Raise TreeError if `tree`/.venv is missing, or was copied and still imports the other tree's packages."""
    python = tree / ".venv" / "bin" / "python"
    if not python.exists():
        raise TreeError(f"{tree} has no .venv; run `make install` there")
    code = "import cli, recommender; print(cli.__file__); print(recommender.__file__)"
    command = [str(python), "-P", "-c", code]
    found = subprocess.run(command, cwd="/", capture_output=True, text=True, env=clean(), check=False)
    if found.returncode != 0:
        raise TreeError(f"{python} cannot import the project: {found.stderr.strip()}")
    for file in found.stdout.split():
        if not Path(file).resolve().is_relative_to(tree):
            raise TreeError(f"{python} imports {file}, which is not in {tree}; run `make install` there")
