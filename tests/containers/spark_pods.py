"""Runs a SparkApplication as a cluster would: spark-submit makes the driver's pod, and the driver the executors'.

Each pod is a container of its own, under the pod's user, read-only root, limits and volumes. All of them share this
machine's loopback address, which is every pod's address.
"""

import copy
import threading
import time
from typing import Any

from kubernetes_api import KubernetesApi
from kustomized import of_kind
from node import Node
from spark_operator import complete, submission

ADDRESS = "127.0.0.1"
CONFIG_MAP_S = 30.0
"""How long a pod may wait for its ConfigMaps."""


class SparkPods:
    """The pods of one SparkApplication on a node that uses this machine's network."""

    def __init__(self, node: Node, application: dict[str, Any]) -> None:
        self.node, self.application = node, copy.deepcopy(application)
        self.api = KubernetesApi(self._created, self._deleted)
        self.containers: dict[str, str] = {}
        """Pod -> the name of its container."""
        self.said: dict[str, str] = {}
        """Pod -> what it had written when it was deleted."""
        self.pods: dict[str, dict[str, Any]] = {}
        """Every pod that was made, as it ran."""

    def run(self, *, timeout_s: float = 600) -> tuple[int, set[tuple[str, str]]]:
        """Submit the application and wait for its driver.

        Returns the driver's exit code, and the verbs and resources for which it called the Kubernetes API.
        """
        with self.api.serving() as api:
            # In a cluster, the driver finds the API at kubernetes.default.svc.
            self.application["spec"]["sparkConf"] |= {
                "spark.kubernetes.driver.master": api.url,
                # Pods of one address would read each other's files, which they cannot see.
                "spark.shuffle.readHostLocalDisk": "false",
            }
            words = submission(self.application, master=api.url)
            image = self.application["spec"]["image"]
            asked = ["run", "--rm", "--network", "host", "--tmpfs", "/tmp", image, "sh", "-c"]
            self.node.engine.output(*asked, 'exec "$SPARK_HOME/bin/spark-submit" "$@"', "spark-submit", *words)
            api.called.clear()
            name = f"{self.application['metadata']['name']}-driver"
            self._start(name)
            code = self.node.engine.output("wait", self.containers[name], timeout_s=timeout_s)
            self.said[name] = self.node.said(self.containers[name])
            return int(code.splitlines()[-1]), set(api.called)

    def _created(self, resource: str, one: dict[str, Any]) -> None:
        if resource == "configmaps":
            self.node.resources.append({**one, "kind": "ConfigMap"})
        if resource == "services":  # of the driver, by which executors find it
            name = f"{one['metadata']['name']}.{self.application['metadata']['namespace']}.svc"
            with (self.node.folder / "hosts").open("a") as hosts:
                hosts.write(f"{ADDRESS} {name}\n")
        if resource == "pods":
            complete(one, self.application)
            self.pods[one["metadata"]["name"]] = one
            if one["metadata"]["labels"]["spark-role"] == "executor":
                threading.Thread(target=self._start, args=[one["metadata"]["name"]]).start()

    def _deleted(self, resource: str, name: str) -> None:
        if resource == "pods" and name in self.containers:
            self.said[name] = self.node.said(self.containers[name])
            self.node.engine("rm", "-f", self.containers[name])

    def _start(self, name: str) -> None:
        pod = self.pods[name]
        (container,) = pod["spec"]["containers"]
        # As a kubelet waits: the driver makes its executors' ConfigMap after their pods.
        needed = {one["configMap"]["name"] for one in pod["spec"]["volumes"] if "configMap" in one}
        ends_s = time.monotonic() + CONFIG_MAP_S
        while needed - {one["metadata"]["name"] for one in of_kind(self.node.resources, "ConfigMap")}:
            assert time.monotonic() < ends_s, f"pod {name}: no ConfigMap among {needed}"
            time.sleep(0.1)
        fields = {"status.podIP": ADDRESS, "metadata.name": name}
        env = [
            {
                "name": one["name"],
                "value": one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]],
            }
            for one in container["env"]
        ]
        self.containers[name] = self.node.run(name, {**container, "env": env, "pod": pod["spec"]})
        ready = [{"type": "Ready", "status": "True"}]
        pod["status"] = {"phase": "Running", "podIP": ADDRESS, "conditions": ready}
        self.api.put("pods", pod)
