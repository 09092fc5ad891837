"""The Job of k8s/upload runs in the serving image: a volume of root becomes ours, and an archive a folder on it."""

from pathlib import Path

from engine import Engine
from kustomized import K8S, kustomize, loaded, named
from node import Node

MODE = """
import os
for path in ("/var/recommender", "/var/recommender/uploads/shop/receive.sh"):
    found = os.stat(path)
    print(found.st_uid, found.st_gid, oct(found.st_mode & 0o777))
"""


def test_the_upload_gives_a_volume_of_root_to_our_user_and_files_to_it(built: Engine, tmp_path: Path) -> None:
    rendered = kustomize(K8S / "upload")
    assert rendered.returncode == 0, rendered.stderr
    resources = loaded(rendered.stdout)
    pod = named(resources, "Job", "campaign-upload")["spec"]["template"]["spec"]
    with Node(built, tmp_path / "node", resources, {}) as node:
        node.volume("recommender-home").chmod(0o700)  # of whoever runs the tests, as a new folder of hostPath is root's
        (owner,), (receive,) = ([{**one, "pod": pod} for one in pod[kind]] for kind in ("initContainers", "containers"))
        node.output_of("owner", owner)
        (receiver,) = node.start("Job", "campaign-upload")
        # What `kubectl exec -i` would pipe in is packed here.
        archive = "tar -C /upload -chf - receive.sh | sh /upload/receive.sh shop"
        assert "1 files" in node.engine.output("exec", receiver, "sh", "-c", archive)
        assert node.engine.output("wait", receiver, timeout_s=30).splitlines()[-1] == "0", node.said(receiver)
        modes = node.output_of("look", {**receive, "command": ["python", "-c", MODE]}).splitlines()
    assert modes == ["10001 10001 0o770", "10001 10001 0o640"]
