"""`make e2e DRY=1` prints every step and does none; the client that it runs in the cluster counts what fails."""

import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from components.images import VERSION

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "e2e_cluster" / "run.sh"


def run(folder: Path, *, kubectl: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a kubectl and a recommender that write down how they were called."""
    for name, then in (("kubectl", kubectl), ("recommender", "")):
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\\\n" "$*" >> {folder}/called\n{then}\n')
        (folder / name).chmod(0o755)
    out = ROOT / "build" / folder.name
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "OUT": str(out.relative_to(ROOT)), **variables}
    try:
        return subprocess.run(["bash", str(SCRIPT)], cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def dry(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(folder, DRY="1", **variables)


NAMED = {"KFP": "http://127.0.0.1:8888", "REGISTRY": "localhost:5000", "OVERLAY": "k8s/overlays/local"}


def test_a_dry_run_prints_the_commands_of_every_step_and_calls_nothing(tmp_path: Path) -> None:
    done = dry(tmp_path, **NAMED)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "called").exists()
    commands = [line.removeprefix("+ ") for line in done.stderr.splitlines() if line.startswith("+ ")]
    for wanted in (
        "kubectl apply -k",
        "recommender submit --host http://127.0.0.1:8888",
        "recommender promote",
        "recommender rollback",
        "rollout restart deploy/campaign-serving",
        "-c gateway -- sh -c kill 1",
        "-c torchserve -- sh -c kill 1",
        "delete pod campaign-store-0",
        "/eviction",
        "client.py load http://campaign-gateway 20 110",
    ):
        assert [command for command in commands if wanted in command], wanted
    rows = done.stdout.splitlines()
    assert [row for row in rows if row.startswith("promotion followed by every replica")]


def test_the_tag_is_this_release_s_unless_another_one_is_named() -> None:
    assert f"TAG=${{TAG:-{VERSION}}}" in SCRIPT.read_text()


def pod(name: str, step: str, main: dict[str, Any]) -> dict[str, Any]:
    """A pod of a step as Argo makes it, whose container `wait` still runs."""
    containers = {"wait": {"running": {"startedAt": "2026-11-29T04:19:30Z"}}, "main": main}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {"workflows.argoproj.io/node-name": f"run.root.{step}.executor"}},
        "spec": {"containers": [{"name": one, "image": "x"} for one in containers]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": one, "state": state} for one, state in containers.items()],
        },
    }


def test_the_pod_that_is_killed_trains_and_has_not_just_ended(tmp_path: Path) -> None:
    ended, runs = {"terminated": {"exitCode": 0}}, {"running": {"startedAt": "2026-11-29T04:19:31Z"}}
    listed = [("ended", "train-ranker", ended), ("other", "ingest", runs), ("trains", "train-ranker-2", runs)]
    (tmp_path / "pods.yaml").write_text("---\n".join(json.dumps(pod(*one)) + "\n" for one in listed))
    # kubectl without a server prints one object after the other, where `get` prints a list of items.
    kubectl = Path(sys.executable).with_name("kubectl")
    stub = f"""k() {{
      local path=${{*: -1}}; path=${{path/"{{range .items[*]}}"/}}
      "{kubectl}" label --local -f "{tmp_path}/pods.yaml" seen=yes -o "${{path%"{{end}}"}}"
    }}"""
    functions = SCRIPT.with_name("functions.sh").read_text()
    (function,) = re.findall(r"^STEP_POD=.*?^\}$", functions, re.MULTILINE | re.DOTALL)
    command = ["bash", "-c", f"{stub}\n{function}\ntraining_pod"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["trains"]


def test_it_drains_no_node_and_deletes_no_namespace(tmp_path: Path) -> None:
    commands = dry(tmp_path, **NAMED).stderr + "".join(one.read_text() for one in SCRIPT.parent.glob("*.sh"))
    assert "kubectl drain" not in commands
    assert "delete namespace" not in commands
    assert "delete ns" not in commands


HALF_APPLIED = """
case "$*" in
  "kustomize "*) printf '  namespace: kubeflow\\n  RECOMMENDER__TIME__AS_OF\\n' ;;
  "-n kubeflow get secret campaign-gateway") exit 1 ;;
  "apply -k "*)
    printf '%s\\n' 'service/campaign-gateway created' 'service/campaign-store unchanged'
    printf '%s\\n' 'persistentvolumeclaim/recommender-home created' 'deployment.apps/campaign-serving created'
    echo 'no matches for kind "ServiceMonitor"' >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("variables", "claims"), [({}, []), ({"DELETE_DATA": "1"}, ["persistentvolumeclaim/recommender-home"])]
)
def test_what_a_refused_apply_has_made_is_deleted_and_nothing_else(
    tmp_path: Path, variables: dict[str, str], claims: list[str]
) -> None:
    done = run(tmp_path, kubectl=HALF_APPLIED, **NAMED, **variables)
    assert done.returncode == 1
    assert "docs/cluster/manifests.md" in done.stderr
    deleted = re.findall(r"^-n kubeflow delete (\S+)", (tmp_path / "called").read_text(), re.MULTILINE)
    made = ["deployment.apps/campaign-serving", *claims, "service/campaign-gateway", "secret/campaign-gateway"]
    assert deleted == made
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("the script itself"))
    assert f"no: build/{tmp_path.name}/" in row


def test_another_namespace_than_the_overlay_s_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = run(tmp_path, kubectl=HALF_APPLIED, **NAMED, NAMESPACE="shop")
    assert done.returncode == 1
    assert "kubeflow" in done.stderr
    assert "shop" in done.stderr
    called = (tmp_path / "called").read_text()
    assert not re.search(r"\b(create|apply|delete)\b", called), called


def test_a_command_without_an_end_is_stopped(tmp_path: Path) -> None:
    functions = SCRIPT.with_name("functions.sh")
    ended = subprocess.run(
        ["bash", "-c", f"DRY= NAMESPACE=shop LIMIT_S=0.2; . {functions}; run sleep 60"], capture_output=True, text=True
    )
    assert ended.returncode == 124
    assert "sleep 60" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("missing", ["KFP", "REGISTRY"])
def test_a_variable_that_is_not_set_is_named(tmp_path: Path, missing: str) -> None:
    done = dry(tmp_path, **{name: value for name, value in NAMED.items() if name != missing})
    assert done.returncode != 0
    assert f"{missing} is not set" in done.stderr


def test_the_script_is_clean_for_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck", path=str(ROOT / ".venv-tools" / "bin")) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: make manifests")
    # From the root, because run.sh names the file that it sources by its path there.
    done = subprocess.run([shellcheck, "-x", str(SCRIPT)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


class Gateway(BaseHTTPRequestHandler):
    """Answers the even users, a hundredth of them as the canary, and refuses the others."""

    def do_POST(self) -> None:
        user = int(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["user_id"])
        variant = "canary" if user == 4 else "champion"
        answer: dict[str, Any] = {"campaigns": [{"campaign_id": "1"}], "degraded": False, "cold_start": False}
        body = json.dumps({**answer, "variant": variant, "model_version": f"{variant}-version"}).encode()
        self.send_response(200 if user % 2 == 0 else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_client_counts_answers_versions_and_failed_requests(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    # The path of the token is that in the pod.
    script = (ROOT / "tests" / "e2e_cluster" / "client.py").read_text()
    (tmp_path / "client.py").write_text(script.replace("/run/secrets/e2e/token", str(tmp_path / "token")))

    def client(*arguments: str) -> list[str]:
        command = [sys.executable, str(tmp_path / "client.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            assert client("ask", url, "10") == ["5", "5", "1", "champion-version", "canary-version"]
            failed, requests, p99_ms = client("load", url, "100", "0.2")
        finally:
            server.shutdown()
            thread.join()
    assert (failed, requests) == ("10", "20")
    assert 0 < int(p99_ms) < 5_000
