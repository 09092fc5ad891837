"""docker or podman, as tests use it: each method is one command of the engine."""

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
"""As both engines write sizes."""


@dataclass(frozen=True)
class Layer:
    """An entry of an image's history: what made it, and its bytes."""

    made_by: str
    num_bytes: float


@dataclass(frozen=True)
class Engine:
    """An engine. `program`: docker, podman, or a program that takes their arguments."""

    program: str
    build_args: str = ""

    def __call__(self, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run one command of the engine and return how it ended."""
        command = [*shlex.split(self.program), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)

    def output(self, *words: str, timeout_s: float = 600) -> str:
        """What a command prints. Fails with what it complains about."""
        done = self(*words, timeout_s=timeout_s)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def layers(self, image: str) -> list[str]:
        """Digests of an image's layers, the lowest first."""
        found: list[str] = json.loads(self.output("image", "inspect", "--format", "{{json .RootFS.Layers}}", image))
        return found

    def labels(self, image: str) -> dict[str, str]:
        """Labels of an image."""
        found: dict[str, str] = json.loads(
            self.output("image", "inspect", "--format", "{{json .Config.Labels}}", image)
        )
        return found

    def history(self, image: str) -> list[Layer]:
        """An image's history, the newest entry first."""
        lines = self.output("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", image).splitlines()
        return [Layer(made_by, _bytes(size)) for size, _, made_by in (line.partition("\t") for line in lines)]

    def build_images(self, checkout: Path, registry: str, *, python: str) -> None:
        """Build both images of a checkout as `make images` does."""
        command = [python, "-m", "components.build_images", registry, "--engine", self.program]
        command.append(f"--build-args={self.build_args}")
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _bytes(text: str) -> float:
    found = re.fullmatch(r"([\d.]+) ?([kMG]?)B?", text.strip())
    assert found, f"{text!r} is no size"
    return float(found[1]) * UNITS[found[2]]
