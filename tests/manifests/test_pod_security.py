"""Every pod of ours satisfies the Pod Security Standard *restricted*, which includes *baseline*.

The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/ (Kubernetes 1.34).
"""

from copy import deepcopy
from typing import Any

import pytest
from kustomized import Resources, pods, rendered_resources

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = ("RuntimeDefault", "Localhost")
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
}
SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")

Pod = dict[str, Any]


def violations(pod: Pod) -> list[str]:
    """What keeps a pod's spec from being admitted under *restricted*."""
    found = [f"pod: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for volume in pod.get("volumes", []):
        found += [f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - VOLUMES]
    whole = pod.get("securityContext", {})
    found += [f"pod: sysctl {one['name']}" for one in whole.get("sysctls", []) if one["name"] not in SAFE_SYSCTLS]
    found += [f"pod: {one}" for one in _of_user(whole)]
    for container in [*pod["containers"], *pod.get("initContainers", []), *pod.get("ephemeralContainers", [])]:
        own = container.get("securityContext", {})
        name = container["name"]
        found += [f"{name}: {one}" for one in _of_user(own)]
        if own.get("privileged"):
            found.append(f"{name}: privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name}: allowPrivilegeEscalation")
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append(f"{name}: capabilities")
        if own.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
            found.append(f"{name}: runAsNonRoot")
        seccomp = own.get("seccompProfile", whole.get("seccompProfile", {}))
        if seccomp.get("type") not in SECCOMP:
            found.append(f"{name}: seccompProfile")
        if own.get("procMount", "Default") != "Default":
            found.append(f"{name}: procMount")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            found.append(f"{name}: hostPort")
        for handler in ("livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(handler, {}).get("httpGet", {}).get("host"):
                found.append(f"{name}: {handler}.httpGet.host")
    return found


def _of_user(context: dict[str, Any]) -> list[str]:
    """Violations that a pod and a container can both have."""
    found = []
    if context.get("runAsUser") == 0:
        found.append("runAsUser 0")
    if context.get("windowsOptions", {}).get("hostProcess"):
        found.append("hostProcess")
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        found.append("seLinuxOptions")
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        found.append("appArmorProfile")
    return found


def test_every_pod_is_admitted_under_restricted(resources: Resources) -> None:
    templates = pods(resources)
    assert len(templates) >= 1
    for template in templates:
        assert violations(template["spec"]) == [], template["metadata"]["labels"]
        annotations = template["metadata"].get("annotations", {})
        assert not [key for key in annotations if key.startswith("container.apparmor")]


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        (("hostNetwork",), True, "pod: hostNetwork"),
        (("securityContext", "runAsNonRoot"), False, "gateway: runAsNonRoot"),
        (("securityContext", "runAsUser"), 0, "pod: runAsUser 0"),
        (("securityContext", "seccompProfile", "type"), "Unconfined", "gateway: seccompProfile"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), None, "gateway: allowPrivilegeEscalation"),
        (("containers", 0, "securityContext", "capabilities", "drop"), ["NET_RAW"], "gateway: capabilities"),
        (("containers", 0, "ports", 0, "hostPort"), 8000, "gateway: hostPort"),
        (("volumes", 0), {"name": "node", "hostPath": {"path": "/"}}, "volume node: hostPath"),
    ],
)
def test_the_rules_find_each_violation(
    path: tuple[str | int, ...], value: Any, violation: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    resources = rendered_resources(tmp_path_factory.mktemp("local"), "local")
    (pod,) = (one["spec"] for one in pods(resources) if one["spec"]["serviceAccountName"] == "campaign-serving")
    wrong = deepcopy(pod)
    place: Any = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert violation in violations(wrong)
