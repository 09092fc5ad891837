"""Measure, print, and merge the rows into the report.

Every module of this package that has a function `rows` is a group of rows. CPU-seconds are those of a process of its
own, from its start to its end.
"""

import argparse
import importlib
import pkgutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import benchmarks.features
from benchmarks.decision.rows import merge
from benchmarks.measured_on import measured_on

REPORT = Path("reports/bench/features.json")


def groups() -> dict[str, ModuleType]:
    """The modules of this package that measure rows, by name."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.features.__path__) if module.name != "__main__"]
    modules = {name: importlib.import_module(f"benchmarks.features.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "rows")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen groups of rows."""
    from rich.table import Table

    from recommender.report.terminal import wide

    found = groups()
    parser = argparse.ArgumentParser(prog="make bench-features", description=benchmarks.features.__doc__)
    parser.add_argument(
        "--groups",
        default=",".join(found),
        help=f"which of {', '.join(found)}, separated by commas",
    )
    parser.add_argument("--output", type=Path, default=REPORT, help="the report (JSON)")
    chosen = parser.parse_args(arguments)
    console = wide()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for name in chosen.groups.split(","):
        if name not in found:
            parser.error(f"unknown group {name!r}; there are {', '.join(found)}")
        started = time.process_time()
        rows = found[name].rows(say)
        merge(rows, measured_on(), chosen.output)
        table = Table("", "value", "goal", "held", title=f"{name}, {time.process_time() - started:.0f} CPU-seconds")
        for row in rows:
            table.add_row(row.name, f"{row.value:.4g}", row.goal, row.in_words)
        console.print(table)
    say(f"all rows: {chosen.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
