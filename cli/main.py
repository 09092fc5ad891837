"""The `recommender` command: verbs only, each one call into a room below."""

from pathlib import Path
from typing import Annotated

import typer

from cli import benchmark, next_items
from cli.verbs import Verbs
from recommender.errors import SettingsError
from recommender.settings import Settings, TimeSettings, load_settings
from recommender.storage.home import Home
from recommender.storage.manifest import digest

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Decide which campaign to put before which shopper, and prove that the decision is better than the last one.\n\n"
    "Start with [bold]recommender run[/]: it trains on a real year of a grocer and shows what it would recommend.",
)

reports = typer.Typer(cls=Verbs, invoke_without_command=True)
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", "-s", help="Settings file (TOML). Without it: recommender.toml where there is one."),
]
DataFile = Annotated[
    Path | None,
    typer.Option("--data", help="Your own data: a mapping file, as `recommender draft-mapping` drafts it."),
]
Url = Annotated[str, typer.Option("--url", help="The gateway's address. Without it: the one of the settings.")]
AsOf = Annotated[str | None, typer.Option(help='What "now" is: 2017-12-31, or 2017-12-31T18:00.')]
FIRST, LATER, CLUSTER = "First", "With a trained ranker", "On a cluster"
app.add_typer(next_items.app, name="next-items", rich_help_panel=LATER)
app.add_typer(benchmark.app, name="benchmark", rich_help_panel=LATER)
app.add_typer(reports, name="report", rich_help_panel=LATER)


def settings_of(file: Path | None, data: Path | None = None, as_of: str | None = None) -> Settings:
    """Settings from the file and the options. Own data has a home of its own (`home`/own/<mapping>-<hash of its path>) and its
    own time.

    Raises:
        SettingsError: the settings file, the environment or an option is wrong; says what.
    """
    default = Path("recommender.toml")
    chosen = load_settings(file if file is not None or not default.is_file() else default)
    if data is not None:
        own = Home.of(chosen).own(f"{data.stem}-{digest(str(data.resolve()))[:6]}")
        chosen = chosen.updated(home=own.root, source={"dataset": "files", "mapping": str(data)})
        if file is None:
            chosen = chosen.updated(time=TimeSettings())
    if as_of is not None:
        try:
            chosen = chosen.updated(time={"as_of": as_of})
        except SettingsError:
            raise SettingsError(f"--as-of {as_of}: neither a date (2017-12-31) nor a time (2017-12-31T18:00)") from None
    return chosen


@app.command(rich_help_panel=FIRST)
def run(
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run every step again, even where its inputs are unchanged.")
    ] = False,
    ask: Annotated[
        bool, typer.Option(help="Start the endpoint afterwards, ask it for three shoppers, and stop it.")
    ] = True,
) -> None:
    """The whole way once: read the data, validate, build features, train, compare with the champion, serve, recommend."""
    from cli.run import run_once

    run_once(settings_of(settings, data, as_of), caching=not fresh, ask_three=ask)


@app.command(rich_help_panel=FIRST)
def draft_mapping(
    files: Annotated[list[Path], typer.Argument(help="Your CSV or Parquet files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the draft goes.")] = Path("mapping.toml"),
) -> None:
    """Draft a mapping from your own files' headers; correct it, then: recommender run --data mapping.toml"""
    from recommender.datasets import draft_mapping as draft
    from recommender.errors import SourceError
    from recommender.storage.manifest import write_text

    if output.exists():
        raise SourceError(f"{output} exists already; give another name with --output")
    write_text(output, draft(files))
    print(f"{output}: read it, fill what it asks for, then: recommender run --data {output}")


@app.command(rich_help_panel=FIRST)
def serve(settings: SettingsFile = None, data: DataFile = None, as_of: AsOf = None) -> None:
    """Start the endpoint (gateway and TorchServe) for the registry's champion and canary, and stay until Ctrl-C."""
    from cli.now import as_materialised
    from cli.serve import serve_until_stopped

    serve_until_stopped(as_materialised(settings_of(settings, data, as_of)))


@app.command(rich_help_panel=FIRST)
def stop(settings: SettingsFile = None, data: DataFile = None) -> None:
    """Stop the endpoint that `recommender serve` started."""
    from cli.serve import stop_running

    stop_running(settings_of(settings, data))


@app.command(rich_help_panel=LATER)
def recommend(
    user: Annotated[str, typer.Argument(help="The shopper's user_id; an unknown one gets what is popular.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    url: Url = "",
    campaigns: Annotated[int, typer.Option(min=1, help="How many campaigns to answer with.")] = 3,
    items: Annotated[int, typer.Option(min=0, help="How many items of each campaign to show.")] = 3,
) -> None:
    """Ask the running endpoint which campaigns to put before one shopper, and why."""
    from cli.answers import ask_and_show

    ask_and_show(settings_of(settings, data), [user], url=url, num_campaigns=campaigns, num_items=items)


@app.command(rich_help_panel=LATER)
def score(
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")] = Path("scores.parquet"),
    settings: SettingsFile = None,
    data: DataFile = None,
) -> None:
    """Score every user against every live campaign with the champion, into one Parquet file."""
    from cli.batch import score_to_file

    score_to_file(settings_of(settings, data), output)


@app.command(rich_help_panel=LATER)
def audience(
    campaign: Annotated[str, typer.Argument(help="The campaign's id.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    top: Annotated[int, typer.Option(min=1, help="How many shoppers to show.")] = 20,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all of them to this Parquet file.")
    ] = None,
) -> None:
    """Which shoppers to choose for one campaign, the most likely first."""
    from cli.batch import show_audience

    show_audience(settings_of(settings, data), campaign, top=top, output=output)


@app.command(rich_help_panel=LATER)
def status(settings: SettingsFile = None, data: DataFile = None) -> None:
    """What serves, since when, from which data and configuration, and what happened before."""
    from cli.registry import show_status

    show_status(settings_of(settings, data))


@app.command(rich_help_panel=LATER)
def promote(
    settings: SettingsFile = None,
    data: DataFile = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "promoted by hand",
) -> None:
    """Make the canary the champion."""
    from cli.registry import promote_canary

    promote_canary(settings_of(settings, data), reason)


@app.command(rich_help_panel=LATER)
def rollback(
    settings: SettingsFile = None,
    data: DataFile = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "rolled back by hand",
) -> None:
    """The way back: end the canary, or, without one, let the previous champion serve again."""
    from cli.registry import roll_back

    roll_back(settings_of(settings, data), reason)


@reports.callback()
def report(context: typer.Context, settings: SettingsFile = None, data: DataFile = None) -> None:
    """The verdict and the results of the last run, and where its pages are; or the curves of a training."""
    from cli.report import show_report

    if context.invoked_subcommand is None:
        show_report(settings_of(settings, data))


@reports.command(name="training")
def report_training(
    place: Annotated[
        Path, typer.Argument(help="A progress.jsonl, or a folder with some below: --checkpoints of a fit.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML page to write.")] = Path("training.html"),
) -> None:
    """Draw the loss and the validation figure of each phase of a training over its steps, while it runs or afterwards."""
    from cli.training import write_training_page

    write_training_page(place, output)


@app.command(rich_help_panel=LATER)
def tune(
    ranker: Annotated[str, typer.Argument(help="The ranker to tune: logistic, lightgbm, transformer, …")],
    settings: SettingsFile = None,
    data: DataFile = None,
    trials: Annotated[int, typer.Option(min=1, help="How many configurations to try.")] = 20,
    folds: Annotated[
        int,
        typer.Option(min=1, help="Judge by the mean over so many successive periods, not by the gate period alone."),
    ] = 1,
) -> None:
    """Search a ranker's hyper-parameters on the training set of the last run; never looks at the final test."""
    from cli.tuning import tune_ranker

    tune_ranker(settings_of(settings, data), ranker, trials=trials, folds=folds)


@app.command(rich_help_panel=CLUSTER, name="compile")
def compile_pipeline(
    settings: SettingsFile = Path("k8s/base/recommender.toml"),
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path("dist"),
    namespace: Annotated[str, typer.Option(help="Namespace of the Pipeline resources.")] = "campaigns",
    registry: Annotated[str, typer.Option(help="Container registry that holds the images.")] = "",
    feature_store: Annotated[str, typer.Option(help="Environment of feature_repo/environments.")] = "staging",
    source_identity: Annotated[
        str, typer.Option(help="Names the source's content; an unchanged one is not read again.")
    ] = "",
) -> None:
    """Write the pipeline's YAML for a cluster, and Pipeline and PipelineVersion resources for GitOps."""
    from cli.cluster import compile_to

    compile_to(
        settings_of(settings),
        output,
        namespace=namespace,
        registry=registry,
        feature_store=feature_store,
        source_identity=source_identity,
    )


@app.command(rich_help_panel=CLUSTER)
def submit(
    host: Annotated[str, typer.Option(help="Address of the KFP endpoint, e.g. http://127.0.0.1:8888")],
    settings: SettingsFile = Path("k8s/base/recommender.toml"),
    namespace: Annotated[str, typer.Option(help="Namespace of the run.")] = "campaigns",
    experiment: Annotated[str, typer.Option(help="KFP experiment of the run.")] = "campaign-training",
    registry: Annotated[str, typer.Option(help="Container registry that holds the images.")] = "",
    feature_store: Annotated[str, typer.Option(help="Environment of feature_repo/environments.")] = "staging",
    service_account: Annotated[
        str, typer.Option(help="Kubernetes account of the steps; empty: the endpoint's own default.")
    ] = "campaign-pipeline",
    source_identity: Annotated[
        str, typer.Option(help="Names the source's content; an unchanged one is not read again.")
    ] = "",
) -> None:
    """Run the pipeline on a KFP endpoint. A bearer token is read from the environment: KFP_TOKEN."""
    from cli.cluster import submit_to

    submit_to(
        settings_of(settings),
        host=host,
        namespace=namespace,
        experiment=experiment,
        registry=registry,
        feature_store=feature_store,
        service_account=service_account,
        source_identity=source_identity,
    )
