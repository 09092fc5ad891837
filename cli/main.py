"""The `recommender` command: its verbs and options. Each verb makes one call into a package below."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from cli import benchmark, cluster, decisions, events, next_items
from cli.options import AsOf, DataFile, Fresh, Now, SettingsFile, Url, as_of_from, settings_of
from cli.verbs import Verbs
from recommender import logs

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Train, judge and serve rankers that choose which marketing campaign to show each shopper.\n\n"
    "Start with [bold]recommender run[/]: it trains on one year of a real grocer and shows recommendations.",
)

reports = typer.Typer(cls=Verbs, invoke_without_command=True)
FIRST, LATER, CLUSTER = "Start here", "With a trained ranker", "On a cluster"
app.add_typer(next_items.app, name="next-items", rich_help_panel=LATER)
app.add_typer(benchmark.app, name="benchmark", rich_help_panel=LATER)
app.add_typer(decisions.app, name="decisions", rich_help_panel=LATER)
app.add_typer(events.app, name="events", rich_help_panel=LATER)
app.add_typer(reports, name="report", rich_help_panel=LATER)


@app.callback()
def common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print the command's log on stderr.")] = False,
) -> None:
    """Options of every command."""
    logs.configure(process="cli", level="INFO" if verbose else "WARNING")
    # A warning is one line for people, without the path and the code that raised it.
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"


@app.command(rich_help_panel=FIRST)
def run(
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
    fresh: Fresh = False,
    ask: Annotated[
        bool, typer.Option(help="Afterwards start the endpoint, ask it for three shoppers, and stop it.")
    ] = True,
) -> None:
    """Run the full pipeline once: ingest, validate, build features, train, judge, and answer three shoppers."""
    from cli.run import run_once

    run_once(settings_of(settings, data, as_of), caching=not fresh, ask_three=ask)


@app.command(rich_help_panel=FIRST)
def draft_mapping(
    files: Annotated[list[Path], typer.Argument(help="Your files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The mapping file to write.")] = Path("mapping.toml"),
) -> None:
    """Draft a mapping from the names and values of your own files. Look at it with `recommender ingest --preview`."""
    from cli.drafts import draft_to

    draft_to(output, files)


@app.command(rich_help_panel=FIRST)
def ingest(
    settings: SettingsFile = None,
    data: DataFile = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder of tables to write.")] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write nothing: show first rows, kinds, times, keys and what is left out.")
    ] = False,
) -> None:
    """Read the source into canonical tables, the first step of a run. Exit code 1 where a run would stop."""
    from cli.data import ingest_to

    ingest_to(settings_of(settings, data), output, preview=preview)


@app.command(rich_help_panel=FIRST)
def features(
    tables: Annotated[str, typer.Option(help="Tables that `ingest` wrote: a folder, or s3://bucket/tables.")],
    output: Annotated[str, typer.Option("--output", "-o", help="What to write: a folder, or s3://bucket/features.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
) -> None:
    """Build the feature set of tables, as a run does, with the engine that `features.engine` names."""
    from cli.data import features_to

    chosen = settings_of(settings, data, as_of)
    features_to(chosen, tables, output, now_from=as_of_from(chosen, settings, as_of))


@app.command(rich_help_panel=FIRST)
def validate(
    settings: SettingsFile = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data: a mapping file, or a folder that `ingest` wrote.")
    ] = None,
    as_of: AsOf = None,
    page: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("validation.html"),
    accept: Annotated[
        str | None, typer.Option(help="Accept what this check found in the last validation as a true change.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why the change is right. Kept in the record.")] = "",
) -> None:
    """Check the source as a run does before it trains. Exit code 1 where a run would stop."""
    from cli.checks import validate_and_show
    from cli.verbs import stopped_by_data

    mapping = None if data is not None and data.is_dir() else data
    with stopped_by_data():
        validate_and_show(settings_of(settings, mapping, as_of), data, page, accept=accept, reason=reason)


@app.command(rich_help_panel=LATER)
def quarantine(
    settings: SettingsFile = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data: a mapping file, or a folder of tables.")
    ] = None,
) -> None:
    """List the rows that were set aside: table, reason, count, examples, and the files that hold them."""
    from cli.checks import show_quarantine

    show_quarantine(settings_of(settings, None if data is not None and data.is_dir() else data), data)


@app.command(rich_help_panel=FIRST)
def serve(
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
    now: Annotated[
        Now | None,
        typer.Option(
            help='What "now" is: the clock, or the moment of the features. Default: the clock while the features are '
            "fresh (monitoring.max_age_hours.user_serving)."
        ),
    ] = None,
) -> None:
    """Start gateway and scoring engine for the champion and the canary, and keep them running until Ctrl-C."""
    from cli.now import as_materialised
    from cli.serve import serve_until_stopped

    serve_until_stopped(as_materialised(settings_of(settings, data, as_of), now))


@app.command(rich_help_panel=FIRST)
def stop(settings: SettingsFile = None, data: DataFile = None) -> None:
    """Stop the endpoint that `recommender serve` started."""
    from cli.serve import stop_running

    stop_running(settings_of(settings, data))


@app.command(rich_help_panel=LATER)
def recommend(
    user: Annotated[str, typer.Argument(help="The shopper's user_id. An unknown one gets the popular campaigns.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    url: Url = "",
    # Three campaigns of three items fit a terminal.
    campaigns: Annotated[int, typer.Option(min=1, help="Number of campaigns.")] = 3,
    items: Annotated[int, typer.Option(min=0, help="Number of items of each campaign.")] = 3,
) -> None:
    """Ask the running endpoint which campaigns to show one shopper, and why."""
    from cli.answers import ask_and_show

    ask_and_show(settings_of(settings, data), [user], url=url, num_campaigns=campaigns, num_items=items)


@app.command(rich_help_panel=LATER, name="load-test")
def load_test(
    url: Annotated[str, typer.Argument(help="The gateway's address, such as http://127.0.0.1:8000.")],
    rate: Annotated[float | None, typer.Option(min=0.1, help="Requests per second, on average.")] = None,
    times: Annotated[
        float | None, typer.Option(min=0.01, help="Instead: so many times the capacity, which is measured first.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to send.")] = 10.0,
    users: Annotated[
        Path | None, typer.Option(help="A file with one user_id a line. Default: users of the last run.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token. Default: the secret `token`.")] = None,
    within_ms: Annotated[
        float | None, typer.Option(min=0, help="What counts as goodput. Default: `deadline_ms` of the settings.")
    ] = None,
    settings: SettingsFile = None,
    data: DataFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Send requests to an endpoint at a steady rate, whatever it answers, and show goodput and latencies."""
    from cli.load import Asked, load_and_show

    asked = Asked(
        url=url,
        rate=rate,
        times=times,
        seconds=seconds,
        users_file=users,
        token_file=token_file,
        within_ms=within_ms,
    )
    load_and_show(settings_of(settings, data), asked, as_json=as_json)


@app.command(rich_help_panel=LATER)
def score(
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet or CSV file to write.")] = Path(
        "scores.parquet"
    ),
    settings: SettingsFile = None,
    data: DataFile = None,
) -> None:
    """Score every user for every live campaign with the champion, and write one Parquet or CSV file."""
    from cli.batch import score_to_file

    score_to_file(settings_of(settings, data), output)


@app.command(rich_help_panel=LATER)
def audience(
    campaign: Annotated[str, typer.Argument(help="The campaign's id.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    top: Annotated[int, typer.Option(min=1, help="Number of shoppers to show.")] = 20,  # a terminal's height, about
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write all shoppers to this Parquet or CSV file.")
    ] = None,
) -> None:
    """Rank all shoppers for one campaign, the most likely first."""
    from cli.batch import show_audience

    show_audience(settings_of(settings, data), campaign, top=top, output=output)


@app.command(rich_help_panel=LATER)
def explain(
    user: Annotated[str, typer.Argument(help="The shopper's user_id.")],
    campaign: Annotated[str, typer.Argument(help="The campaign's id.")],
    settings: SettingsFile = None,
    data: DataFile = None,
) -> None:
    """Say which place a campaign gets for a shopper and why, or at which stage it drops out."""
    from cli.explain import show_explanation

    show_explanation(settings_of(settings, data), user, campaign)


@app.command(rich_help_panel=LATER)
def portrait(
    user: Annotated[str, typer.Argument(help="The shopper's user_id.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    page: Annotated[Path | None, typer.Option(help="Also write an HTML page to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of sentences.")] = False,
    encoder: Annotated[
        bool, typer.Option(help="Ask a ranker's sequence encoder what comes next and who is alike. Takes seconds.")
    ] = True,
) -> None:
    """Show what is known of one shopper: rhythm, favourites, value, risk of leaving. Also as a page."""
    from cli.portrait import show_portrait

    show_portrait(settings_of(settings, data), user, page, as_json=as_json, encoder=encoder)


@app.command(rich_help_panel=LATER)
def status(settings: SettingsFile = None, data: DataFile = None) -> None:
    """Show which versions serve, since when, from which data and configuration, and the latest changes."""
    from cli.registry import show_status

    show_status(settings_of(settings, data))


@app.command(rich_help_panel=LATER)
def monitor(
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
    fresh: Fresh = False,
) -> None:
    """Compare the newest data with what the champion was trained on and promised. Exit code 1: a limit is broken."""
    from cli.monitoring import monitor_and_show

    if not monitor_and_show(settings_of(settings, data, as_of), caching=not fresh):
        raise typer.Exit(1)


@app.command(rich_help_panel=LATER)
def refresh(
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
    fresh: Fresh = False,
) -> None:
    """Bring the newest features and campaigns to serving, without a training."""
    from cli.monitoring import refresh_and_show

    refresh_and_show(settings_of(settings, data, as_of), caching=not fresh)


@app.command(rich_help_panel=LATER)
def backfill(
    first: Annotated[str, typer.Option("--from", help="The first day, UTC, such as 2017-05-01.")],
    last: Annotated[str, typer.Option("--to", help="The last day. It is included.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    as_of: AsOf = None,
) -> None:
    """Let late events and corrections of some days count, and bring the new features to serving."""
    from cli.backfill import backfill_and_refresh

    backfill_and_refresh(settings_of(settings, data, as_of), first=first, last=last)


@app.command(rich_help_panel=LATER)
def promote(
    settings: SettingsFile = None,
    data: DataFile = None,
    reason: Annotated[str, typer.Option(help="The reason, for the registry's history.")] = "promoted by hand",
) -> None:
    """Make the canary the champion: it then serves all users."""
    from cli.registry import promote_canary

    promote_canary(settings_of(settings, data), reason)


@app.command(rich_help_panel=LATER)
def rollback(
    settings: SettingsFile = None,
    data: DataFile = None,
    reason: Annotated[str, typer.Option(help="The reason, for the registry's history.")] = "rolled back by hand",
) -> None:
    """Undo the latest change: stop the canary or, without one, make the previous champion serve again."""
    from cli.registry import roll_back

    roll_back(settings_of(settings, data), reason)


@app.command(rich_help_panel=LATER)
def clean(
    settings: SettingsFile = None,
    data: DataFile = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", help="Age for every kind, such as 30d or 8w. Default: the settings' section `retention`."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete old runs, checkpoints, versions, catalogues, quarantine and decisions that nothing needs any more."""
    from cli.clean import clean_home

    clean_home(settings_of(settings, data), older_than=older_than, dry_run=dry_run, yes=yes)


@app.command(rich_help_panel=LATER)
def forget(
    users: Annotated[list[str] | None, typer.Argument(help="The shoppers' user_ids.")] = None,
    settings: SettingsFile = None,
    data: DataFile = None,
    file: Annotated[Path | None, typer.Option("--file", help="A text file with one user_id a line.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is held of them, and where.")] = False,
    allow: Annotated[
        bool, typer.Option("--allow", help="Let shoppers who were forgotten come back, instead of forgetting them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Forget without asking.")] = False,
    wait: Annotated[
        float,
        typer.Option("--wait", min=0, help="Hours to wait for the end of a run or a training that uses the home."),
    ] = 0.0,
) -> None:
    """Remove shoppers from stores, logs, runs and training sets, and keep them out. Exit code 1 if a trace is left."""
    from cli.forget import allow_users, forget_users

    if allow:
        allow_users(settings_of(settings, data), users or [], file)
    else:
        forget_users(settings_of(settings, data), users or [], file, dry_run=dry_run, yes=yes, wait_hours=wait)


@reports.callback()
def report(context: typer.Context, settings: SettingsFile = None, data: DataFile = None) -> None:
    """Show verdict, figures and pages of the last run, or draw the curves of a training."""
    from cli.report import show_report

    if context.invoked_subcommand is None:
        show_report(settings_of(settings, data))


@reports.command(name="training")
def report_training(
    place: Annotated[
        Path, typer.Argument(help="A progress.jsonl file, or a folder with some, such as the --checkpoints of a fit.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML page to write.")] = Path("training.html"),
) -> None:
    """Draw loss and validation figure of each phase of a training as a page, during or after the training."""
    from cli.training import write_training_page

    write_training_page(place, output)


@app.command(rich_help_panel=LATER)
def tune(
    ranker: Annotated[str, typer.Argument(help="The campaign ranker to tune: logistic, lightgbm, transformer, …")],
    settings: SettingsFile = None,
    data: DataFile = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials.")] = next_items.TRIALS,
    folds: Annotated[
        int,
        typer.Option(min=1, help="Judge by the mean over this many successive periods before the gate period."),
    ] = 1,
) -> None:
    """Search a campaign ranker's hyperparameters on the last run's training set, before the gate period."""
    from cli.tuning import tune_ranker

    tune_ranker(settings_of(settings, data), ranker, trials=trials, folds=folds)


@app.command(rich_help_panel=LATER, name="cross-validate")
def cross_validate(
    settings: SettingsFile = None,
    data: DataFile = None,
    rankers: Annotated[
        str, typer.Option(help="Campaign rankers, with commas between. The others are compared with the first.")
    ] = "logistic,rate_rule",
    origins: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of origins, with about equal pairs between them. Default: up to 3, as far as each is judged "
            "by enough participations.",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="An origin instead, such as 2017-05-01. Repeat it for several.")
    ] = None,
    through_gate: Annotated[
        bool,
        typer.Option(
            "--through-gate",
            help="Judge up to the final test, by the campaigns of the gate period too. The gate then judges a "
            "challenger that is chosen by these figures too kindly; its page says how often they were read.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Judge rankers by rolling origin on the last run's training set: fit at several moments before the gate period."""
    from cli.cross_validation import cross_validate_and_show

    cross_validate_and_show(
        settings_of(settings, data),
        rankers,
        count=origins,
        origins=origin or [],
        through_gate=through_gate,
        as_json=as_json,
    )


@app.command(rich_help_panel=FIRST)
def behaviour(
    settings: SettingsFile = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data: a mapping file, or a folder that `ingest` wrote.")
    ] = None,
    as_of: AsOf = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("behaviour"),
    # A week, and four weeks, which hold each day of the week equally often.
    days: Annotated[list[int] | None, typer.Option(help="Length of the window. Repeat it. Default: 7 and 28.")] = None,
    origins: Annotated[int, typer.Option(min=1, help="Number of past moments at which forecasts are judged.")] = 4,
    forecast: Annotated[str, typer.Option(help="The forecast to write: logistic, lightgbm, bg_nbd, …")] = "logistic",
) -> None:
    """Forecast whether each user will buy, visit or redeem in the next days, judged by rolling origin."""
    from cli.behaviour import forecast_and_show

    mapping = None if data is not None and data.is_dir() else data
    chosen = settings_of(settings, mapping, as_of)
    forecast_and_show(chosen, data, output, days=days or [7, 28], origins=origins, forecast=forecast)


@app.command(rich_help_panel=FIRST)
def rankers(
    name: Annotated[str | None, typer.Argument(help="One ranker. Without it: all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List the rankers with their hyperparameters: defaults, allowed values, searched ranges and meaning."""
    from cli.rankers import show_rankers

    show_rankers(name, as_json=as_json)


app.command(rich_help_panel=CLUSTER, name="compile")(cluster.compile_pipeline)
app.command(rich_help_panel=CLUSTER)(cluster.submit)
app.add_typer(cluster.schedules, name="schedules", rich_help_panel=CLUSTER)
