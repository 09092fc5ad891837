"""One of the two commits at work: its command line, with an environment in which the same inputs give the same bits."""

import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.nothing_moved import inputs
from benchmarks.nothing_moved.trees import clean

SPELLINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "run": (("run", "--no-ask"),),
    "serve": (("serve",),),
    "stop": (("stop",),),
    "judge": (("benchmark", "sequences"),),
    "ask": (("next-items", "ask"), ("next-items",)),
}
"""Command lines of each step, present and past. The first one that a checkout accepts is used."""
WRONG_USAGE = re.compile(r"No such (command|option)|Missing (command|option|argument)|unexpected extra argument")

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Sums of floats depend on how many threads share them."""


class RunFailed(Exception):
    """A step failed in a checkout. Holds its last lines and names its log."""


@dataclass
class Side:
    """One commit: its checkout, the folder where it works, and the folder of what explains a difference."""

    tree: Path
    folder: Path
    kept: Path

    def recommender(self, step: str, *words: str, log: str, at: Path | None = None, **environment: str) -> str:
        """Run one step by its first spelling that is understood, and return what it printed.

        Raises:
            RunFailed: it failed.
        """
        file = self.folder / f"{log}.log"
        for spelling in SPELLINGS[step]:
            command = [*self.command, *spelling, *words]
            with (
                file.open("w") as errors,
                subprocess.Popen(
                    command,
                    cwd=at or self.folder,
                    env=self.environment(**environment),
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                ) as process,
            ):
                try:
                    printed, _ = process.communicate()
                except BaseException:
                    process.terminate()  # and not killed: the command ends the processes that it has started
                    process.wait()
                    raise
            said = file.read_text()
            if process.returncode == 0:
                return printed
            if not (process.returncode == 2 and WRONG_USAGE.search(said)):
                break
        file.write_text(f"{printed}\n{said}")
        raise RunFailed(
            f"{' '.join(spelling)} ended with {process.returncode}: {' | '.join(last_lines(said))} (log: {file})"
        )

    @property
    def command(self) -> list[str]:
        """The first words of a call of the checkout's `recommender`."""
        bin_folder = self.tree / ".venv" / "bin"
        return [str(bin_folder / "python"), str(bin_folder / "recommender")]

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a call: one thread, no colours, a separate temporary folder, and `more`."""
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return clean(**ONE_THREAD, COLUMNS="200", NO_COLOR="1", TMPDIR=str(temporary), **more)

    @property
    def shop_home(self) -> Path:
        """Home folder of the synthetic shop."""
        return self.folder / "shop"

    @property
    def shop_settings(self) -> Path:
        """Settings file of the synthetic shop."""
        return self.folder / "shop.toml"

    def write_shop_settings(self) -> dict[str, int]:
        """Write the shop's settings with ports that are free now, and return the ports."""
        judgement = self.folder / "judgement.toml"
        judgement.write_text(inputs.JUDGEMENT)
        ports = _free_ports("port", "inference_port", "management_port", "metrics_port")
        self.shop_settings.write_text(inputs.shop_settings(self.shop_home, judgement, ports))
        return ports

    @cached_property
    def trained_shop(self) -> Path:
        """The home folder of the shop after one run of the training pipeline, which happens at the first use."""
        shutil.rmtree(self.shop_home, ignore_errors=True)
        self.write_shop_settings()
        self.recommender("run", "--settings", str(self.shop_settings), log="shop-run")
        return self.shop_home


def last_lines(text: str) -> list[str]:
    """The last three lines of a log, enough for an error, without the frames that are drawn around them."""
    return [line.strip() for line in text.splitlines() if line.strip(" ─│╭╮╰╯")][-3:]


def _free_ports(*names: str) -> dict[str, int]:
    sockets = [socket.socket() for _ in names]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return ports
