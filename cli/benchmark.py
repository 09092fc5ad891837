"""`benchmark sequences`: any next-item ranker on any file of events."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.next_items import (
    Attributes,
    CheckpointFolder,
    Columns,
    Compiled,
    Device,
    Given,
    Interactions,
    Kinds,
    RankerName,
    Seed,
    event_columns,
    request_of,
    require_program,
)
from cli.verbs import Verbs
from recommender.engine.context import DEFAULT_SEED

app = typer.Typer(
    cls=Verbs, no_args_is_help=True, help="Measure rankers on your own data, with the protocol of docs/benchmarks.md."
)
WARNINGS = {
    "targets_seen_before": "users had their last item before; `next-items ask` recommends such items only with --seen",
    "targets_tied_in_time": "users' last two events have the same time; "
    "`pos`, or without it the file's order, decides which is last",
    "items_without_events": "items are only in the attributes file; they are ranked too",
}


class TrainOnChoice(StrEnum):
    """The data that a benchmark's last fit learns from."""

    TRAIN = "train"
    BOTH = "train+validation"


@app.command()
def sequences(
    interactions: Interactions,
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSON file to write.")],
    attributes: Attributes = None,
    columns: Columns = None,
    kinds: Kinds = None,
    ranker: RankerName = "fusion",
    train_on: Annotated[
        TrainOnChoice, typer.Option(help="Whether the last fit may learn from the validation item.")
    ] = TrainOnChoice.TRAIN,
    seed: Seed = DEFAULT_SEED,
    device: Device = "cpu",
    given: Given = None,
    checkpoints: CheckpointFolder = None,
    readings: Annotated[
        Path | None, typer.Option(help="JSON-lines file that records each reading of the test items.")
    ] = None,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Also leave 5 % of the items out of training, and rank them by content alone."),
    ] = False,
    program: Annotated[
        Path | None,
        typer.Option("--export", help="Also write the ranker (student, sasrec) as a torch.export program, FILE.pt2."),
    ] = None,
    compiled: Compiled = False,
    trials: Annotated[
        int,
        typer.Option(
            min=0, help="Trials of a search, by the validation items, for hyperparameters that --set does not name."
        ),
    ] = 0,
    study: Annotated[
        Path | None,
        typer.Option(help="The search's SQLite file. A stopped search continues from it. [default: beside --output]"),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also fit on every event and write a bundle, which `next-items ask` reads.")
    ] = None,
) -> None:
    """Judge one ranker on one file of events by leave-one-out and full ranking: NDCG@10 and recall@10."""
    from cli.bars import fit_bars
    from recommender.engine.torchrun import is_first
    from recommender.errors import SettingsError
    from recommender.training.next_items import Benchmark, Outputs

    require_program(compiled, program, "--export")
    if study is not None and not trials:
        raise SettingsError(f"--study {study}: there is no search without trials; give their number with --trials")
    outputs = Outputs(
        report=output,
        readings=readings,
        checkpoints=checkpoints,
        study=study,
        bundle=save,
        program=program,
        compiled=compiled,
    )
    with fit_bars() as progress:
        request = request_of(
            interactions, attributes, ranker, given, seed, device, progress, event_columns(columns, kinds)
        )
        report = Benchmark(request=request, outputs=outputs, train_on=train_on.value, trials=trials, cold=cold).run()
    if is_first():
        _show(report, output, program)


def _show(report: dict[str, Any], output: Path, program: Path | None) -> None:
    (low, high), counts = report["interval95"]["ndcg@10"], report["counts"]
    of_all = (
        ""
        if counts["users"] == counts["users_judged"]
        else f" of {counts['users']:,} (the others have fewer than three events)"
    )
    print(
        f"{report['ranker']}, trained on {report['train_on']}: "
        f"NDCG@10 {report['ndcg@10']:.4f} [{low:.4f}, {high:.4f}], "
        f"recall@10 {report['recall@10']:.4f}, {report['users']:,} users{of_all}, {counts['items']:,} items; "
        f"fitted in {report['fit_cpu_seconds']:.1f} CPU-seconds\n{output}"
    )
    for name, text in WARNINGS.items():
        if counts[name]:
            print(f"{counts[name]:,} {text}")
    if (search := report["search"]) is not None:
        took = f"{search['trials']} trials took {search['cpu_seconds']:.1f} CPU-seconds"
        print(f"{took} and chose {search['hyperparameters']}")
    if (cold := report["cold"]) is not None:
        among = {name: cold[f"among_{name}"]["ndcg@10"] for name in ("all", "cold")}
        print(
            f"cold items, {cold['users']:,} users: {among['cold']:.4f} among themselves, {among['all']:.4f} among all"
        )
    if program is not None:
        difference = report["export"]["largest_difference"]
        print(f"{program}: scores of program and ranker differ by at most {difference:.1e} of the largest score")
