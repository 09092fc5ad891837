"""Runs the groups of rows of a package of benchmarks: measures, prints, and merges the rows into the report.

Every module of the package that has a function `rows` is a group.
"""

import argparse
import importlib
import pkgutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.decision.rows import merge
from benchmarks.measured_on import measured_on


def groups_of(package: ModuleType) -> dict[str, ModuleType]:
    """The modules of a package that measure rows, by name."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "__main__"]
    modules = {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "rows")}


def measure_groups(package: ModuleType, command: str, report: Path, arguments: Sequence[str] | None = None) -> int:
    """Measure the groups that the arguments choose, by default all.

    Args:
        package: holds the groups.
        command: what the user called, for the help.
        report: the rows are merged into it where `--output` names no other file.
        arguments: words of the command line. None: those of the process.
    """
    from rich.table import Table

    from recommender.report.terminal import wide

    found = groups_of(package)
    parser = argparse.ArgumentParser(prog=command, description=package.__doc__)
    parser.add_argument("--groups", default=",".join(found), help=f"which of {', '.join(found)}, separated by commas")
    parser.add_argument("--output", type=Path, default=report, help="the report (JSON)")
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
