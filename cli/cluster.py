"""Verbs for a cluster: `compile`, `submit` and `schedules`."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import ClusterSettingsFile, settings_of
from cli.verbs import Verbs
from recommender.errors import RecommenderError, SettingsError
from recommender.settings import Settings

if TYPE_CHECKING:
    from pipelines.cluster import Cluster
    from pipelines.cluster_look import ClusterView, Look
    from pipelines.endpoint import Endpoint
    from pipelines.submit import Outcome

HELD, STILL_RUNS = 3, 4
"""Exit codes of `submit --wait`: the champion stays, and the time is over. 0 is PROMOTE, 1 a failed step, and 2 a run
that was not started, as an error of any verb."""

Host = Annotated[str, typer.Option(help="Address of the KFP endpoint, such as http://127.0.0.1:8888")]
Namespace = Annotated[
    str, typer.Option(help="Namespace of the run in a Kubeflow with Profiles. KFP alone has one and ignores it.")
]
Ui = Annotated[str, typer.Option("--ui", help="Address of KFP's UI, for the run's page. Empty: as --host.")]
Registry = Annotated[str, typer.Option(help="Container registry that holds the images. Empty: cluster.registry.")]
FeatureStore = Annotated[
    str, typer.Option(help="Feast environment: a folder of feature_repo/environments. Empty: cluster.feature_store.")
]
# As in `pipelines.named`, which the serving image lacks: there the help must still be shown.
TRAINING = "training"
Named = Annotated[str, typer.Argument(help="The pipeline: training, monitoring or refresh.")]
DEFAULT_SETTINGS = Path("k8s/base/recommender.toml")

schedules = typer.Typer(cls=Verbs, no_args_is_help=True, help="List and end schedules that `submit --cron` made.")


def compile_pipeline(
    pipeline: Named = TRAINING,
    settings: ClusterSettingsFile = DEFAULT_SETTINGS,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path("dist"),
    namespace: Annotated[str, typer.Option(help="Namespace of the Pipeline resources.")] = "campaigns",
    registry: Registry = "",
    feature_store: FeatureStore = "",
) -> None:
    """Write a pipeline's YAML for a cluster, and the Pipeline and PipelineVersion resources for GitOps."""
    from pipelines.compile import compile_cluster

    chosen = settings_of(settings)
    files = compile_cluster(
        chosen,
        output,
        cluster=_cluster(chosen, registry, feature_store),
        namespace=namespace,
        pipeline=pipeline,
    )
    print(f"{files[0]}: for a KFP endpoint (recommender submit, or the UI's upload)")
    print(f"{files[1]}: Pipeline and PipelineVersion resources (kubectl apply -f)")


def submit(
    host: Host,
    pipeline: Named = TRAINING,
    settings: ClusterSettingsFile = DEFAULT_SETTINGS,
    package: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Run this YAML of `compile` instead of compiling now."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the run; lists and objects as JSON."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Show the steps until the run ends. Exit code: 0 PROMOTE, 3 HOLD, 1 a step failed, 4 it still runs, "
            "2 it was not started.",
        ),
    ] = False,
    timeout_minutes: Annotated[
        float, typer.Option("--timeout-minutes", min=0, help="With --wait: for how long. The run itself goes on.")
    ] = 720.0,
    every: Annotated[float, typer.Option(min=0, help="With --wait: seconds between two looks.")] = 5.0,
    cron: Annotated[
        str,
        typer.Option(
            help="Run at these times instead of now: minute, hour, day of month, month, day of week. End it with "
            "`recommender schedules end`."
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="Of the run or schedule. Empty: made from challenger and as_of.")] = "",
    namespace: Namespace = "campaigns",
    experiment: Annotated[str, typer.Option(help="KFP experiment of the run. Empty: the pipeline's name.")] = "",
    ui: Ui = "",
    registry: Registry = "",
    feature_store: FeatureStore = "",
    service_account: Annotated[
        str | None,
        typer.Option(
            help="Kubernetes service account of the steps. Empty: the default of the KFP endpoint. Without it: "
            "cluster.service_account."
        ),
    ] = None,
    look: Annotated[
        bool, typer.Option(help="Where a kubeconfig is at hand, look for account, claim, Secret and room first.")
    ] = True,
) -> None:
    """Run a pipeline on a KFP endpoint, now or on a schedule. KFP_TOKEN is sent as bearer token, if set."""
    from pipelines.compile import compile_cluster
    from pipelines.named import NamedPipeline
    from pipelines.submit import Submission, start, start_recurring

    known = NamedPipeline(pipeline).name
    if wait and cron:
        raise SettingsError("--wait watches a run that starts now; a schedule (--cron) starts none")
    chosen = settings_of(settings)
    cluster = _cluster(chosen, registry, feature_store)
    account = cluster.pods.service_account if service_account is None else service_account
    with tempfile.TemporaryDirectory() as folder:
        if package is None:
            package, _ = compile_cluster(chosen, Path(folder), cluster=cluster, namespace=namespace, pipeline=pipeline)
        submission = Submission(
            package=package,
            pipeline=known,
            sets=tuple(sets or ()),
            experiment=experiment,
            name=name,
            service_account=account,
        )
        pinned = submission.pinned
        endpoint = _endpoint(host, namespace, ui)
        view = _view() if look else None
        seen = None
        if view is not None:
            seen = view.look(
                namespace=namespace,
                multi_user=endpoint.health.multi_user,
                cluster=cluster,
                account=account,
                specification=submission.specification,
                device=str(submission.arguments.get("device", "")),
            )
            _say(view, seen)
        if cron:
            made = start_recurring(endpoint, submission, cron)
            print(f"{made.name}: {cron} (UTC, unless your KFP has another time zone), version {made.version}")
            if pinned:
                print(f"as_of is {pinned}: every run uses the same data. Leave [time] out to use the newest.")
            return
        started = start(endpoint, submission)
        print(f"{started.name}: version {started.version}{', uploaded now' if started.uploaded else ''}")
        print(endpoint.page_of_run(started.id))
        if wait:
            where = seen.namespace if seen else namespace
            watch = Watch(view=view, namespace=where, timeout_s=timeout_minutes * 60, poll_s=every)
            _wait(endpoint, started.id, submission.specification, watch)


@schedules.command(name="list")
def list_schedules(host: Host, namespace: Namespace = "campaigns") -> None:
    """Show the schedules: name, times, whether it is on, and its id."""
    from pipelines.schedules import without_seconds

    known = _endpoint(host, namespace).recurring_runs()
    if not known:
        _note("there is no schedule")
    for one in known:
        times = without_seconds(one.get("trigger", {}).get("cron_schedule", {}).get("cron", "no cron"))
        print(f"{one['display_name']}\t{times}\t{one.get('status', '')}\t{one['recurring_run_id']}")


@schedules.command(name="end")
def end_schedule(
    name: Annotated[str, typer.Argument(help="The schedule's name or id.")],
    host: Host,
    namespace: Namespace = "campaigns",
) -> None:
    """End a schedule. A run that it has started goes on."""
    from pipelines.submit import end_recurring

    print(f"{name}: ended ({end_recurring(_endpoint(host, namespace), name)})")


def _note(text: str) -> None:
    """Say what is worth knowing and is no result: on stderr, so that a script can read what is one."""
    typer.echo(f"note: {text}", err=True)


def _cluster(settings: Settings, registry: str, feature_store: str) -> "Cluster":
    from pipelines.cluster import Cluster

    return Cluster.of(settings.cluster, registry=registry, feature_store=feature_store)


def _endpoint(host: str, namespace: str, ui: str = "") -> "Endpoint":
    from pipelines.endpoint import Endpoint
    from pipelines.kfp_refusals import TOKEN_VARIABLE

    endpoint = Endpoint(host, namespace=namespace, token=os.environ.get(TOKEN_VARIABLE, "").strip() or None, ui=ui)
    if endpoint.health.doubt:
        _note(endpoint.health.doubt)
    return endpoint


def _view() -> "ClusterView | None":
    from pipelines.cluster_look import ClusterView

    try:
        return ClusterView()
    except SettingsError as error:
        _note(f"{error}: account, claim, Secret and room on the nodes were not looked at")
        return None


def _say(view: "ClusterView", seen: "Look") -> None:
    for note in seen.notes:
        _note(note)
    if seen.problems:
        raise SettingsError(
            f"the run was not started. In the cluster of the context {view.context!r} "
            + "; ".join(seen.problems)
            + ". Is that another cluster than --host? Then add --no-look"
        )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a run is watched."""

    view: "ClusterView | None"
    namespace: str
    """Where the run's pods are."""
    timeout_s: float
    poll_s: float


def _wait(endpoint: "Endpoint", run_id: str, specification: Mapping[str, Any], watch: Watch) -> None:
    """Show a run until it ends, and exit by its verdict."""
    from pipelines.submit import follow

    def waiting() -> list[str]:
        return watch.view.waiting(run_id, watch.namespace) if watch.view else []

    def say(line: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)

    try:
        outcome = follow(
            endpoint,
            run_id,
            specification,
            say=say,
            waiting=waiting,
            timeout_s=watch.timeout_s,
            poll_s=watch.poll_s,
        )
    except RecommenderError as error:
        raise type(error)(f"{error}. The run goes on: {endpoint.page_of_run(run_id)}") from None
    if outcome is None:
        print(f"the run still runs after {watch.timeout_s / 60:g} minutes: {endpoint.page_of_run(run_id)}")
        raise typer.Exit(STILL_RUNS)
    raise typer.Exit(_ended(outcome, endpoint.page_of_run(run_id)))


def _ended(outcome: "Outcome", page: str) -> int:
    """Say how a run ended, and give the exit code."""
    from pipelines.run_states import HOLD

    if outcome.state == "SUCCEEDED":
        print(f"{outcome.verdict or outcome.state}: {page}")
        return HELD if outcome.verdict == HOLD else 0
    for step in outcome.failed:
        place = "KFP's driver of the step" if step.in_driver else "the step"
        print(f"{place} {step.name} failed. The end of its log:")
        print(outcome.logs[step.name] or "no log: its pod was not started or is gone")
    if outcome.error:
        print(outcome.error)
    print(f"{outcome.state}: {page}")
    return 1
