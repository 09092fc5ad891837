"""Every command of the manifests and every step of the pipeline runs in the images as the manifests say."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from kustomized import Resources, of_kind, rendered_resources
from node import Mount, Node
from steps import StepsOf
from typer.testing import CliRunner

from benchmarks.decision.rows import Row
from cli.main import app
from components.hold import hold
from components.images import PIPELINE_IMAGE

ROOT = Path(__file__).parents[2]
TOKEN, PASSWORD = "a-token-for-tests", "apasswordfortests"
WITHIN_S = 5.0
FOLLOWED_S = 10.0
"""After a verb, every replica serves what the registry names within this time."""
GATEWAY = "http://127.0.0.1:8000"
SHOP = """
[source]
dataset = "synthetic"
[source.synthetic]
num_users = 300
num_items = 100
num_campaigns = 20
num_categories = 6
days = 240
[training]
challenger = "lightgbm"
baselines = ["popularity"]
threads = 1
"""
JUDGEMENT = "[gate]\nbootstrap_samples = 200\nmin_positives = 5\n"
MODES = """
import json, os, sys
found = {}
for folder, _, files in os.walk("/var/recommender"):
    for path in [folder, *(os.path.join(folder, file) for file in files)]:
        found[path] = os.lstat(path).st_mode & 0o777
print(json.dumps(found))
"""
SERVED_AT = """
from recommender.matching.packed_user import ServingSchema
from recommender.settings import load_settings
from recommender.storage.home import Home
print(ServingSchema.load(Home.of(load_settings()).feature_store.root).as_of)
"""


def wait_until(true: Callable[[], bool], what: Callable[[], str], *, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what()}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster's settings, with a small shop in place of the default data."""
    text = (ROOT / "k8s" / "base" / "recommender.toml").read_text()
    dataset = '[source]\ndataset = "complete_journey"\n'
    assert dataset in text
    file = tmp_path_factory.mktemp("settings") / "recommender.toml"
    file.write_text(text.replace(dataset, SHOP))
    return file


@pytest.fixture(scope="module")
def node(built: Engine, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with the overlay `local` and its CronJobs, and a running store."""
    resources = rendered_resources(tmp_path_factory.mktemp("k8s"), "local", "housekeeping")
    configure(resources, settings.read_text())
    secrets = {"campaign-gateway": {"token": TOKEN}, "campaign-store": {"redis_password": PASSWORD}}
    with Node(built, tmp_path_factory.mktemp("node"), resources, secrets) as one:
        one.start("StatefulSet", "campaign-store")
        (redis,) = one.containers("StatefulSet", "campaign-store")
        wait_until(lambda: one.probe("campaign-store", redis, "readiness"), lambda: "the store is ready")
        yield one


@pytest.fixture(scope="module")
def steps(node: Node, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> StepsOf:
    """The training pipeline as `recommender compile` writes it, once it ran on the node."""
    dist, root = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("artifacts")
    done = CliRunner().invoke(app, ["compile", "--settings", str(settings), "--output", str(dist)])
    assert done.exit_code == 0, done.output
    judgement = node.folder / "judgement.toml"
    judgement.write_text(JUDGEMENT)
    steps = StepsOf(node, dist / "training.yaml", [Mount(judgement, "/app/judgement.toml", read_only=True)])
    steps.run(root)
    return steps


def configure(resources: Resources, text: str) -> None:
    """Give the pods other settings."""
    for settings in (one for one in of_kind(resources, "ConfigMap") if "recommender.toml" in one["data"]):
        settings["data"]["recommender.toml"] = text


def assert_stop_soon(node: Node, names: list[str], figures: list[Row], when: str) -> None:
    """Send SIGTERM to each container in turn, and note how long it took."""
    for name in names:
        seconds, _ = node.stop(name)
        of = name.removeprefix(f"{node.id}-").removeprefix("campaign-serving-")
        figures.append(Row.at_most(f"SIGTERM to end, {of} {when}, s", round(seconds, 2), WITHIN_S))
        assert seconds <= WITHIN_S, node.said(name)[-2000:]


def events(node: Node, container: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.said(container).splitlines() if line.startswith('{"')]


def test_a_pod_without_a_champion_is_ready_says_so_once_and_stops_at_once(node: Node, figures: list[Row]) -> None:
    names = node.start("Deployment", "campaign-serving")
    containers = node.containers("Deployment", "campaign-serving")
    for container in containers:
        for probe in ("startup", "readiness", "liveness"):
            wait_until(
                lambda container=container, probe=probe: node.probe("campaign-serving", container, probe),
                lambda container=container, probe=probe: f"{probe} of {container['name']}",
            )
    time.sleep(5)  # two more looks of the deployer at the registry
    status, text = node.ask("POST", f"{GATEWAY}/v1/recommendations", body={"user_id": "1"}, token=TOKEN)
    assert status == 503, text
    said = [one["event"] for one in events(node, f"{node.id}-campaign-serving-deployer")]
    assert sum("first champion" in event for event in said) == 1, said
    assert_stop_soon(node, names, figures, "without a champion")
    for name in names:
        node.engine.output("rm", name)


def test_every_cron_job_runs_on_an_empty_volume(node: Node) -> None:
    for job in of_kind(node.resources, "CronJob"):
        code, said = node.run_job(job["metadata"]["name"])
        assert code == 0, f"{job['metadata']['name']}: {said}"


def test_every_step_runs_in_the_image(steps: StepsOf, tmp_path: Path) -> None:
    missing = set(steps.executors) - set(steps.ran)
    assert len(missing) == 1, "one of deploy and hold"
    assert missing <= {"deploy", "hold"}
    if missing == {"hold"}:
        steps.run_alone(hold, tmp_path, champion="a", challenger="b", reason="It is no better.")
        assert "**a**" in next(tmp_path.rglob("note")).read_text()


def test_a_step_that_is_told_to_stop_ends_at_once(
    node: Node, steps: StepsOf, tmp_path: Path, figures: list[Row]
) -> None:
    waits = ["python", "-c", "import recommender.training, time; print('waits', flush=True); time.sleep(60)"]
    words = steps.words(["--function_to_execute", "evaluate", *waits], tmp_path, "step")
    place = words.index("--function_to_execute")
    node.engine.output("run", "-d", *words[:place], *words[place + 2 :])
    name = f"{node.id}-step"
    wait_until(lambda: "waits" in node.said(name), lambda: node.said(name))
    assert_stop_soon(node, [name], figures, "while it runs")


def test_what_steps_leave_on_the_volume_is_for_our_user_and_group_alone(node: Node, steps: StepsOf) -> None:
    modes = json.loads(in_pipeline_image(node, "python", "-c", MODES))
    assert len(modes) > 20
    opened = {path: oct(mode) for path, mode in modes.items() if mode & 0o027 and path != "/var/recommender"}
    assert not opened, f"after {steps.ran}"


def in_pipeline_image(node: Node, *argv: str) -> str:
    """Run a command in the pipeline image on the volume, as a CronJob's pod would."""
    (job,) = (one for one in node.containers("CronJob", "campaign-clean"))
    return node.output_of("by-hand", {**job, "command": list(argv)})


def test_a_recommendation_is_answered_and_verbs_in_the_pod_change_what_serves(
    node: Node, steps: StepsOf, settings: Path, figures: list[Row]
) -> None:
    as_of = in_pipeline_image(node, "python", "-c", SERVED_AT).strip()
    configure(node.resources, f'{settings.read_text()}\n[time]\nas_of = "{as_of}"\n')
    names = node.start("Deployment", "campaign-serving")
    _, _, deployer = names

    def answer(user: str = "user-00000") -> dict[str, Any]:
        status, text = node.ask("POST", f"{GATEWAY}/v1/recommendations", body={"user_id": user}, token=TOKEN)
        return {"status": status, "text": text, **(json.loads(text) if status == 200 else {})}

    wait_until(
        lambda: answer().get("model_version", "popular") != "popular",
        lambda: f"{answer()}\n{node.said(deployer)[-2000:]}",
    )
    assert node.ask("POST", f"{GATEWAY}/v1/recommendations", body={"user_id": "1"})[0] == 401
    user = next(user for user in (f"user-{row:05d}" for row in range(50)) if answer(user)["variant"] == "champion")
    champion = answer(user)["model_version"]
    assert not answer(user)["degraded"]
    shown = node.engine.output("exec", deployer, "recommender", "status")
    assert champion in shown
    refused = node.engine("exec", deployer, "recommender", "clean")
    assert refused.returncode == 2
    assert PIPELINE_IMAGE.rpartition("/")[2] in refused.stderr
    wait_until(lambda: any(one.get("canary") for one in events(node, deployer)), lambda: node.said(deployer))
    # The canary takes over for everybody, and goes again.
    for verb, serves in (("promote", True), ("rollback", False)):
        node.engine.output("exec", deployer, "recommender", verb, "--reason", "by hand")
        began = time.monotonic()
        wait_until(
            lambda serves=serves: (answer(user)["model_version"] != champion) is serves, lambda: node.said(deployer)
        )
        seconds = round(time.monotonic() - began, 2)
        figures.append(Row.at_most(f"from {verb} in the pod until it is served, s", seconds, FOLLOWED_S))
        assert seconds < FOLLOWED_S
    assert_stop_soon(node, names, figures, "while it serves")


def test_the_store_stops_at_once(node: Node, steps: StepsOf, figures: list[Row]) -> None:
    assert_stop_soon(node, [f"{node.id}-campaign-store-redis"], figures, "with what the steps wrote")
