"""One server of each kind per test process, started by the first test that asks and empty for every test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import prometheus_client  # noqa: F401 - before any test imports Feast, which would have it keep figures in files
import pytest
import servers

SERVING = "tests/serving/"
BEHIND_SERVING = 5
"""Niceness of the tests that run beside those of tests/serving: a third of a share of a core. By hand."""
numbers = itertools.count()
# The same examples in each run, and no limit on their time: neither chance nor a busy machine fails a test.
hypothesis.settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, a test process gets a file at a time, and the first one gets all of tests/serving.

    Those tests share an endpoint, which takes 20 CPU-seconds to start. They measure times, so no two run at once. They
    mostly wait, so there is one process more than there are cores.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return SERVING if file.startswith(SERVING) else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of tests/serving come first: they take longest, as no two of them run at once."""
    items.sort(key=lambda item: not item.nodeid.startswith(SERVING))


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test process that has no test of tests/serving, or no more, leaves the cores to the one that has."""
    if "PYTEST_XDIST_WORKER" in os.environ and not nodeid.startswith(SERVING) and os.nice(0) < BEHIND_SERVING:
        os.nice(BEHIND_SERVING - os.nice(0))


@pytest.fixture(autouse=True)
def without_settings_of_feast(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import feast` sets this for its whole process; the gateway's process has none of it."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Valkey that several tests fill. Tests ask for `redis_url` instead."""
    with servers.valkey(tmp_path_factory.mktemp("valkey")) as port:
        yield port


@pytest.fixture
def redis_url(shared_valkey: int) -> str:
    """The `store.redis_url` of an empty database."""
    import redis

    with redis.Redis(port=shared_valkey) as client:
        client.flushall()
    return f"redis://127.0.0.1:{shared_valkey}/1"


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Path]:
    """The socket folder of a PostgreSQL in which several tests have databases. Tests ask for `database_url` instead."""
    with servers.postgres() as folder:
        yield folder


@pytest.fixture
def database_url(shared_postgres: Path) -> str:
    """The SQLAlchemy URL of an empty database."""
    import psycopg

    name = f"test_{next(numbers)}"
    with psycopg.connect(host=str(shared_postgres), user="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://postgres@/{name}?host={shared_postgres}"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.ObjectStore]:
    """A SeaweedFS in which several tests have buckets. Tests ask for `bucket` instead."""
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture
def bucket(object_store: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket. The environment holds what a client needs to reach `s3://<bucket>`."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    name = f"test-{next(numbers)}"
    object_store.files.create_dir(name)
    return name
