"""`behaviour`: forecast what every user will do in the next days, and show how good such forecasts were."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cli.bars import fits_bars
from recommender.datasets import ingest
from recommender.datasets.tables import open_tables
from recommender.evaluation.behaviour import FIGURES, Task
from recommender.evaluation.document import Estimate
from recommender.event_tables.forgotten_rows import without_forgotten
from recommender.report.estimates import written
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import require_writable
from recommender.storage.scratch import scratch_folder
from recommender.training.behaviour import Behaviour, forecast_behaviour, require_choices


def forecast_and_show(
    settings: Settings, data: Path | None, output: Path, *, days: Sequence[int], origins: int, forecast: str
) -> None:
    """Forecast from the folder of tables `data`, or from the settings' source, and print the figures."""
    require_choices(days, forecast)
    require_writable(output)
    with scratch_folder("tables") as place, fits_bars() as (step, _):
        if data is not None and data.is_dir():
            tables = open_tables(data)
        else:
            step("reading the source", 0, 1)
            tables = ingest(settings.source, Path(place) / "tables", resources=settings.resources)
            tables = without_forgotten(tables, Home.of(settings), resources=settings.resources)
        found = forecast_behaviour(
            tables, settings, output, days=days, origins=origins, forecast=forecast, progress=step
        )
    show(found, output)


def show(found: Behaviour, output: Path) -> None:
    """Print the cutoffs, the population, and a table for each outcome and length."""
    console = wide()
    judged = found.cutoffs[-found.num_judged :]
    console.print(
        f"Known to {found.as_of:%Y-%m-%d}. {len(found.cutoffs)} cutoffs from {found.cutoffs[0]:%Y-%m-%d} on; "
        f"judged at {', '.join(f'{one:%Y-%m-%d}' for one in judged)}, each from the earlier ones. "
        f"Everyone counts: {found.population}.",
        highlight=False,
    )
    for task in found.tasks:
        console.print(_table(task, found))
    for out in found.left_out:
        console.print(f"[yellow]left out:[/] {out.outcome}, {out.days} days: {escape(out.reason)}", highlight=False)
    console.print(f"{output}: forecasts by {found.forecast} as of {found.as_of.isoformat()}, and all figures")


def _table(task: Task, found: Behaviour) -> Table:
    title = f"{task.outcome} ({found.meanings[task.outcome]}) within {task.days} days"
    counts = (
        f"{task.num_rows:,} users at cutoffs · {task.num_users:,} users · {task.share:.1%} did it · "
        f"{found.confidence:.0%} intervals over users"
    )
    columns = [*FIGURES.values(), f"log-loss gain over {task.best_baseline}"]
    table = Table("forecast", *columns, title=title, title_justify="left", caption=counts)
    for name, of in task.forecasts.items():
        gain = task.gains.get(name, {}).get("log_loss")
        table.add_row(name, *(written(of.metrics[figure]) for figure in FIGURES), _signed(gain))
    return table


def _signed(gain: Estimate | None) -> str:
    return "" if gain is None else escape(f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
