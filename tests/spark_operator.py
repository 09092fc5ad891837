"""What Kubeflow's Spark operator does with a SparkApplication: it submits it, and its webhook completes the pods.

Written after internal/controller/sparkapplication/submission.go and internal/webhook/sparkpod_defaulter.go of
https://github.com/kubeflow/spark-operator (2.x), for the fields that our SparkApplication has.
"""

from typing import Any

LOCAL_DIR = "spark-local-dir-"
"""Volumes of this prefix are Spark's own scratch: the operator names them to Spark, and its webhook leaves them out."""
CONF = {"cores": "cores", "memory": "memory", "memoryOverhead": "memoryOverhead", "instances": "instances"}
KUBERNETES_CONF = {"coreRequest": "request.cores", "coreLimit": "limit.cores"}


def submission(application: dict[str, Any], *, master: str) -> list[str]:
    """Arguments of spark-submit. `master`: the Kubernetes API's address."""
    spec, name = application["spec"], application["metadata"]["name"]
    conf = {
        "spark.kubernetes.namespace": application["metadata"]["namespace"],
        "spark.kubernetes.container.image": spec["image"],
        "spark.kubernetes.container.image.pullPolicy": spec["imagePullPolicy"],
        "spark.kubernetes.submission.waitAppCompletion": "false",
        "spark.kubernetes.driver.pod.name": f"{name}-driver",
        **spec["sparkConf"],
    }
    for role in ("driver", "executor"):
        asked = spec[role]
        conf |= {f"spark.{role}.{ours}": str(asked[key]) for key, ours in CONF.items() if key in asked}
        conf |= {f"spark.kubernetes.{role}.{ours}": asked[key] for key, ours in KUBERNETES_CONF.items()}
        conf[f"spark.kubernetes.authenticate.{role}.serviceAccountName"] = asked["serviceAccount"]
        labels = {"sparkoperator.k8s.io/app-name": name, **asked["labels"]}
        conf |= {f"spark.kubernetes.{role}.label.{key}": value for key, value in labels.items()}
        conf |= _scratch(spec, role)
    words = ["--master", f"k8s://{master}", "--deploy-mode", spec["mode"], "--name", name]
    for key, value in conf.items():
        words += ["--conf", f"{key}={value}"]
    return [*words, spec["mainApplicationFile"], *spec["arguments"]]


def complete(pod: dict[str, Any], application: dict[str, Any]) -> None:
    """Do to a pod of Spark what the webhook does."""
    spec = application["spec"]
    asked = spec[pod["metadata"]["labels"]["spark-role"]]
    (container,) = pod["spec"]["containers"]
    mounts = [one for one in asked["volumeMounts"] if not one["name"].startswith(LOCAL_DIR)]
    mounted = {one["name"] for one in mounts}
    pod["spec"].setdefault("volumes", []).extend(one for one in spec["volumes"] if one["name"] in mounted)
    container.setdefault("volumeMounts", []).extend(mounts)
    container.setdefault("env", []).extend(asked["env"])
    container["securityContext"] = asked["securityContext"]
    pod["spec"]["securityContext"] = asked["podSecurityContext"]


def _scratch(spec: dict[str, Any], role: str) -> dict[str, str]:
    """How the operator tells Spark of a volume for its scratch."""
    conf = {}
    for mount in spec[role]["volumeMounts"]:
        if mount["name"].startswith(LOCAL_DIR):
            (volume,) = (one for one in spec["volumes"] if one["name"] == mount["name"])
            of = f"spark.kubernetes.{role}.volumes.emptyDir.{mount['name']}"
            conf |= {f"{of}.mount.path": mount["mountPath"], f"{of}.options.sizeLimit": volume["emptyDir"]["sizeLimit"]}
    return conf
