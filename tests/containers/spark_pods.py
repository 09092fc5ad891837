"""Runs a SparkApplication as a cluster would: spark-submit makes the driver's pod, and the driver the executors'.

Each pod is a container of its own, under the pod's user, read-only root, limits and volumes. All of them share this
machine's loopback address, which is every pod's address.
"""

import copy
from typing import Any

from kubernetes_api import KubernetesApi
from node import Node
from spark_operator import complete, submission

ADDRESS = "127.0.0.1"


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
            self.application["spec"]["sparkConf"]["spark.kubernetes.driver.master"] = api.url
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
                self._start(one["metadata"]["name"])

    def _deleted(self, resource: str, name: str) -> None:
        if resource == "pods":
            self.said[name] = self.node.said(self.containers[name])
            self.node.engine("rm", "-f", self.containers[name])

    def _start(self, name: str) -> None:
        pod = self.pods[name]
        (container,) = pod["spec"]["containers"]
        fields = {"status.podIP": ADDRESS, "metadata.name": name}
        env = [
            {
                "name": one["name"],
                "value": one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]],
            }
            for one in container["env"]
        ]
        self.containers[name] = self.node.run(name, {**container, "env": env, "pod": pod["spec"]})
        pod["status"] = {"phase": "Running", "podIP": ADDRESS}
        self.api.put("pods", pod)
