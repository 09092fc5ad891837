"""`next-items`: fit a next-item ranker on a file of events, ask it, and search its hyperparameters."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.verbs import Verbs
from recommender.engine.context import DEFAULT_SEED

if TYPE_CHECKING:
    from recommender.allocation.next_item_answers import AnswerReport
    from recommender.datasets.event_columns import EventColumns
    from recommender.training.next_items import FitReport, FitRequest, Found

Interactions = Annotated[
    Path,
    typer.Option(
        help="Events: Parquet, CSV, JSON lines or Excel with user, item, and `pos` or a timestamp, a folder of such "
        "files or of tables that `ingest` wrote, or a mapping TOML whose table of events is read. If there are both, "
        "`pos` orders the events. If times are equal, the file's order does."
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="The columns of the events, as in user=visitorid,item=sku,time=ts (also pos, kind). Usual names such as "
        "user_id, product_id and event_time are found without."
    ),
]
Kinds = Annotated[
    str | None, typer.Option(help="Only these kinds of events count, as in purchase,cart. Default: all events.")
]
Attributes = Annotated[
    Path | None,
    typer.Option(
        help="Items: Parquet or CSV with `item` and `attributes` (a list, or values separated by |), or a text. "
        "Items without events are ranked too."
    ),
]
RankerName = Annotated[str, typer.Option("--ranker", help="A next-item ranker. `recommender rankers` lists them.")]
Given = Annotated[
    list[str] | None, typer.Option("--set", help="A hyperparameter of the ranker, as in width=128. May be repeated.")
]
TRIALS = 20
"""Trials of a search where no number is given. Chosen by hand. One may be continued with more."""
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
CheckpointFolder = Annotated[
    Path | None, typer.Option(help="Folder for checkpoints and the training curve. A killed run resumes from it.")
]
Compiled = Annotated[
    bool, typer.Option("--compiled", help="Compile the program to machine code with AOTInductor. Needs a C++ compiler.")
]


class NextItemVerbs(Verbs):
    """Accepts the options of `ask` without the verb, as an earlier release did, and prints a note."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Insert the verb `ask` where options come first, unless they ask for help."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            print("`recommender next-items` is now `recommender next-items ask`: use that name.", file=sys.stderr)
            args = ["ask", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=NextItemVerbs,
    no_args_is_help=True,
    help="Fit a next-item ranker on a file of events, ask it for each user's next items, search its hyperparameters.",
)


@app.command()
def fit(
    interactions: Interactions,
    save: Annotated[Path, typer.Option(help="The folder for the bundle, which `next-items ask` reads.")],
    attributes: Attributes = None,
    columns: Columns = None,
    kinds: Kinds = None,
    ranker: RankerName = "fusion",
    given: Given = None,
    seed: Seed = DEFAULT_SEED,
    device: Device = "cpu",
    checkpoints: CheckpointFolder = None,
    program: Annotated[
        Path | None,
        typer.Option(help="Also write the ranker (student, sasrec) as a torch.export program, FILE.pt2."),
    ] = None,
    compiled: Compiled = False,
) -> None:
    """Fit a ranker for use: first without each user's last item, to choose and judge it, then on every event."""
    from cli.bars import fit_bars
    from recommender.engine.torchrun import is_first
    from recommender.training.next_items import Outputs, fit_for_use

    require_program(compiled, program, "--program")
    outputs = Outputs(checkpoints=checkpoints, bundle=save, program=program, compiled=compiled)
    with fit_bars() as progress:
        request = request_of(
            interactions, attributes, ranker, given, seed, device, progress, event_columns(columns, kinds)
        )
        report = fit_for_use(request, outputs)
    if is_first():
        _show_fit(report, request, outputs.bundle, program)


@app.command()
def ask(
    interactions: Interactions,
    bundle: Annotated[Path, typer.Option(help="The folder that `next-items fit --save` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet or CSV file to write.")],
    top: Annotated[
        int, typer.Option(min=1, help="How many items a user gets.")
    ] = 10,  # as rankers are judged (NDCG@10)
    seen: Annotated[
        bool,
        typer.Option("--seen", help="Also recommend items that the user already had, for goods that are bought again."),
    ] = False,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out events with items that the ranker was not fitted on.")
    ] = False,
    vectors: Annotated[
        Path | None, typer.Option(help="Folder to write item and user vectors to, for rankers that have vectors.")
    ] = None,
    columns: Columns = None,
    kinds: Kinds = None,
) -> None:
    """Write each user's best next items by a fitted ranker, without items that the user already had."""
    from recommender.allocation.next_item_answers import AnswerRequest, answer

    request = AnswerRequest(
        bundle=bundle,
        interactions=interactions,
        output=output,
        top=top,
        seen=seen,
        skip_unknown=skip_unknown,
        vectors=vectors,
        columns=event_columns(columns, kinds),
    )
    _show_answer(answer(request), output, vectors)


@app.command()
def tune(
    interactions: Interactions,
    study: Annotated[Path, typer.Option(help="SQLite file of the search. A stopped search continues from it.")],
    attributes: Attributes = None,
    columns: Columns = None,
    kinds: Kinds = None,
    ranker: RankerName = "fusion",
    trials: Annotated[
        int, typer.Option(min=1, help="How many trials in all, those of earlier calls included.")
    ] = TRIALS,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter that is not searched, as in epochs=20.")
    ] = None,
    seed: Seed = DEFAULT_SEED,
    device: Device = "cpu",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the best hyperparameters: .toml or .json.")
    ] = None,
) -> None:
    """Search a ranker's hyperparameters by each user's last item but one. The last items are not read."""
    from cli.bars import fit_bars
    from recommender.training.next_items import Outputs, tune_ranker

    with fit_bars() as progress:
        request = request_of(
            interactions, attributes, ranker, given, seed, device, progress, event_columns(columns, kinds)
        )
        found = tune_ranker(request, Outputs(study=study, report=output), trials=trials)
    _show_search(found, ranker, output)


def request_of(
    interactions: Path,
    attributes: Path | None,
    ranker: str,
    given: list[str] | None,
    seed: int,
    device: str,
    progress: Callable[[dict[str, Any]], None],
    columns: "EventColumns",
) -> "FitRequest":
    """The request that the options describe.

    Raises:
        SettingsError: A word of `--set` has no "=".
    """
    from recommender.engine.assignments import parse_assignments
    from recommender.training.next_items import FitRequest

    return FitRequest(
        interactions=interactions,
        attributes=attributes,
        columns=columns,
        ranker=ranker,
        hyperparameters=parse_assignments(given or []),
        seed=seed,
        device=device,
        progress=progress,
    )


def event_columns(columns: str | None, kinds: str | None) -> "EventColumns":
    """What `--columns` and `--kinds` say.

    Raises:
        SettingsError: A part of `--columns` is not meaning=column, or a meaning is unknown.
    """
    from recommender.datasets.event_columns import NAMES, EventColumns
    from recommender.errors import SettingsError, suggestion

    chosen = {}
    for part in (columns or "").split(",") if columns else []:
        meaning, equals, name = (word.strip() for word in part.partition("="))
        if not equals or not name:
            raise SettingsError(f"--columns: {part!r} must be meaning=column, as in user=visitorid")
        if meaning not in NAMES:
            raise SettingsError(f"--columns: unknown meaning {meaning!r}; {suggestion(meaning, NAMES)}")
        chosen[meaning] = name
    return EventColumns(chosen, tuple(kind.strip() for kind in (kinds or "").split(",") if kind.strip()))


def require_program(compiled: bool, program: Path | None, option: str) -> None:
    """Refuse `--compiled` without a program's file.

    Raises:
        SettingsError: There is nothing to compile.
    """
    from recommender.errors import SettingsError

    if compiled and program is None:
        raise SettingsError(f"--compiled: there is no program to compile; name its file with {option}")


def _show_fit(report: "FitReport", request: "FitRequest", bundle: Path | None, program: Path | None) -> None:
    from recommender.evaluation.means import mean_interval95

    held_out, counts = report.held_out.summary(), report.counts
    low, high = mean_interval95(report.held_out.ndcg_U())
    print(
        f"{request.ranker}: {counts['events']:,} events, {counts['users']:,} users, {counts['items']:,} items; "
        f"fitted in {report.cost['fit_cpu_seconds']:.1f} CPU-seconds"
    )
    print(
        f"judged by the last item of {held_out['users']:,} users, which the first fit did not learn from: "
        f"NDCG@10 {held_out['ndcg@10']:.4f} [{max(low, 0.0):.4f}, {min(high, 1.0):.4f}], "
        f"recall@10 {held_out['recall@10']:.4f}"
    )
    if report.chosen:
        print(
            f"the items that judged also chose {', '.join(report.chosen)} (the end of training, or how experts are "
            "mixed), so expect slightly lower figures for new users"
        )
    print(f"{bundle}: the ranker, fitted once more on every event; use it with: recommender next-items ask")
    if program is not None:
        print(
            f"{program}: scores of program and ranker differ by at most "
            f"{report.largest_difference:.1e} of the largest score"
        )


def _show_answer(report: "AnswerReport", output: Path, vectors: Path | None) -> None:
    print(f"{output}: {report.rows:,} rows, {report.users:,} users, by {report.ranker}")
    if report.events_left_out:
        print(
            f"{report.events_left_out:,} events with unknown items were left out; "
            f"{report.users_without_events:,} users have no other events and get the popular items"
        )
    if report.users_without_answer:
        print(f"{report.users_without_answer:,} users have had every item and get no row")
    if vectors is not None:
        print(f"{vectors}: {report.items:,} items and {report.users:,} users, {report.vector_width} numbers each")


def _show_search(found: "Found", ranker: str, output: Path | None) -> None:
    import json
    import shlex

    from recommender.training.next_items.tune import as_toml

    print(
        f"best of {found.trials} trials: NDCG@10 {found.ndcg:.4f} on the validation items; "
        f"{found.cpu_seconds:.1f} CPU-seconds. In the settings file:\n\n{as_toml(ranker, found.best)}"
    )
    words = (f"--set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in found.best.items())
    print(f"On the command line: recommender next-items fit --ranker {ranker} {' '.join(words)} …")
    print(f"all trials: {found.study.with_suffix('.json')}")
    if output is not None:
        print(output)
