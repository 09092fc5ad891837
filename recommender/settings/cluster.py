"""Settings of the pods in which a pipeline's steps run. `compile` and `submit` read them; no step does."""

from typing import Annotated, Literal

from pydantic import Field

from recommender.settings.sections import Section

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
"""An amount of CPU or memory as Kubernetes writes it, such as 500m, 2 or 4Gi."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
"""A name of a Kubernetes object."""


class StepSettings(Section):
    """Resources of one step. What is left out keeps the size in `pipelines.cluster`."""

    cpu: Quantity | None = Field(None, description="CPU that the step's pod asks for.")
    cpu_limit: Quantity | None = Field(None, description="CPU that it may use.")
    memory: Quantity | None = Field(None, description="Memory that the step's pod asks for.")
    memory_limit: Quantity | None = Field(None, description="Memory beyond which it is killed.")
    hours: float | None = Field(None, gt=0, le=720, description="Time after which the step is given up.")


class Toleration(Section):
    """A taint of nodes that a pod accepts, in Kubernetes' own words."""

    key: str = Field("", description="The taint's key. Empty: every taint.")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="`Exists`: any value. `Equal`: this `value`.")
    value: str = Field("", description="The taint's value, for `Equal`.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "", description="The taint's effect. Empty: every effect."
    )


class GpuSettings(Section):
    """The accelerator that the challenger's training gets when the run's parameter `device` is `cuda`."""

    resource: str = Field("nvidia.com/gpu", description="Its name as a resource of Kubernetes.")
    count: int = Field(1, ge=1, le=16, description="How many of them the step asks for.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints of the nodes that have one.")


class ClusterSettings(Section):
    """Where the steps of a pipeline run, and with what. The defaults are the names in k8s/base."""

    registry: str = Field("", description="Container registry of the images. Empty: the one in `components.images`.")
    image_pull_secrets: tuple[Name, ...] = Field((), description="Secrets with which the images are pulled.")
    service_account: str = Field(
        "campaign-pipeline", description="Account of the steps. Empty: the default of the KFP endpoint."
    )
    feature_store: str = Field("staging", description="Feast environment: a folder of feature_repo/environments.")
    claim: Name = Field("recommender-home", description="Volume claim that holds `home`, mounted in every step.")
    store_secret: Name = Field(
        "campaign-store",
        description="Secret whose keys are the steps' secret files: `redis_password`, `postgres_password`, "
        "`source_password`.",
    )
    source_secrets: dict[Name, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Secret -> keys that are environment variables of the steps that read the source, such as "
        "AWS_ACCESS_KEY_ID.",
    )
    source_variables: dict[str, str] = Field(
        default_factory=dict,
        description="Plain environment variables of the steps that read the source, such as AWS_ENDPOINT_URL.",
    )
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of the nodes on which steps run.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints of nodes that every step accepts.")
    gpu: GpuSettings = GpuSettings()
    shared_memory: Quantity | None = Field(
        None, description="Size of /dev/shm in the steps that train. None: what the container runtime gives (64 MiB)."
    )
    steps: dict[str, StepSettings] = Field(
        default_factory=dict, description="`steps.<name>`: resources of a step, such as `train_ranker`."
    )
    deadline_hours: float = Field(
        24.0, gt=0, le=720, description="Time after which a whole run is ended. By hand: a run takes minutes to hours."
    )
    keep_days: float = Field(
        7.0,
        gt=0,
        le=3_650,
        description="Days after which the pods of a finished run, and so their logs, are removed. What a run wrote "
        "stays. By hand.",
    )
