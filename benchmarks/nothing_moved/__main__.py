"""Compare what two commits make of the same inputs on this machine: `python -m benchmarks.nothing_moved BEFORE AFTER`.

It prints a line for each thing compared and ends with 0 only if all are equal. With --cache the results of BEFORE are
kept and taken again for the same commit, inputs and processor, so that a later run needs to run AFTER alone.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.nothing_moved import inputs
from benchmarks.nothing_moved.differences import first_difference, tensors_apart
from benchmarks.nothing_moved.runs import PARTS, Facts
from benchmarks.nothing_moved.side import RunFailed, Side
from benchmarks.nothing_moved.trees import (
    COMMIT_DIGITS,
    TreeError,
    changed,
    commit_of,
    given_tree,
    make_tree,
    remove_tree,
)


@dataclass(frozen=True)
class Line:
    """One thing compared. `difference` is None where both sides are equal."""

    part: str
    what: str
    says: str
    difference: str | None


@dataclass
class Commit:
    """One of the two commits: its checkout, which is made at the first use, its work and its results."""

    name: str
    id: str
    options: argparse.Namespace
    work: Path

    @cached_property
    def side(self) -> Side:
        """The commit's command line, in its checkout."""
        given: Path | None = getattr(self.options, f"{self.name}_tree")
        if given is None:
            tree = make_tree(self.id, self.made, self.options.pip_args)
        else:
            tree = given_tree(given, self.id, may_differ=self.name == "after")
        folder = (self.work / self.name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return Side(tree, folder, self.kept)

    @property
    def made(self) -> Path:
        """Where a checkout is made if none was given."""
        return self.work / "trees" / f"{self.name}-{self.id[:COMMIT_DIGITS]}"

    @property
    def cached(self) -> Path | None:
        """Where the results of BEFORE are kept. Bits depend on the processor, so its model is in the name."""
        if self.name == "after" or self.options.cache is None:
            return None
        return Path(self.options.cache) / f"{self.id[:COMMIT_DIGITS]}-{inputs.digest()}-{_processor()}"

    @property
    def kept(self) -> Path:
        """Folder of tensors that explain a difference."""
        return self.cached or self.work / f"{self.name}-kept"

    def facts(self, part: str) -> tuple[Facts, str]:
        """The facts of a part and what they cost, from the cache where they are there."""
        file = self.cached and self.cached / f"{part}.json"
        if file and file.is_file():
            kept = json.loads(file.read_text())
            return kept["facts"], f"cached, {kept['seconds']:.0f} s then"
        print(f"{self.name}: {part} …", flush=True)
        began = time.monotonic()
        # Read back from JSON, so that both sides went through the same hands.
        try:
            facts: Facts = json.loads(json.dumps(PARTS[part](self.side)))
        except (OSError, LookupError, ValueError) as error:
            raise RunFailed(f"{type(error).__name__}: {error}") from error
        seconds = time.monotonic() - began
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".part")
            partial.write_text(json.dumps({"facts": facts, "seconds": seconds}))
            partial.replace(file)
        return facts, f"{seconds:.0f} s"


def main() -> int:
    """Run both commits, compare, print, and return the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is running is then ended, as by Ctrl-C
    work = Path(options.workdir or tempfile.mkdtemp(prefix="nothing-moved-")).resolve()
    commits = [Commit(name, commit_of(getattr(options, name)), options, work) for name in ("before", "after")]
    try:
        lines, costs = _compared(options.parts, *commits)
        equal = _summed_up(lines, costs, *commits)
    finally:
        if options.workdir is None:
            for commit in commits:
                remove_tree(commit.made)
            shutil.rmtree(work, ignore_errors=True)
    return 0 if equal else 1


def _compared(parts: list[str], before: Commit, after: Commit) -> tuple[list[Line], dict[str, str]]:
    """All lines, each printed when its part is done, and what each part took."""
    lines: list[Line] = []
    costs: dict[str, str] = {}
    for part in parts:
        compared, costs[part] = _part(part, before, after)
        lines += compared
        for line in compared:
            print(shown(line), flush=True)
    return lines, costs


def _summed_up(lines: list[Line], costs: dict[str, str], before: Commit, after: Commit) -> bool:
    """Print what was compared, write it as JSON if asked, and return whether everything is equal."""
    options, differing = after.options, [line for line in lines if line.difference is not None]
    dirty = " with uncommitted changes" if options.after_tree and changed(options.after_tree) else ""
    machine = _processor(readable=True)
    print(
        f"\nbefore {before.id[:COMMIT_DIGITS]}, after {after.id[:COMMIT_DIGITS]}{dirty}; "
        f"inputs {inputs.digest()}; {machine}"
    )
    for part, cost in costs.items():
        print(f"  {part:<10}  {cost}")
    count = f"{len(lines)} compared"
    print(f"{count}, {len(differing)} DIFFERENT" if differing else f"{count}, all equal", flush=True)
    if options.json is not None:
        found: dict[str, Any] = {"before": before.id, "after": after.id, "equal": not differing, "costs": costs}
        options.json.write_text(json.dumps({**found, "compared": [asdict(line) for line in lines]}, indent=1))
    return not differing


def _part(part: str, before: Commit, after: Commit) -> tuple[list[Line], str]:
    """A line for each fact of a part, and what both sides took. A part that fails after the change is a difference.

    Raises:
        RunFailed: it fails before the change.
    """
    facts, cost = before.facts(part)
    try:
        later, later_cost = after.facts(part)
    except RunFailed as failed:
        return [Line(part, "all", "", f"could not be run after: {failed}")], f"before {cost}, after failed"
    lines = []
    for what in [*facts, *(name for name in later if name not in facts)]:
        if what not in later or what not in facts:
            where = "after" if what in facts else "before"
            lines.append(Line(part, what, "", f"is missing {where}"))
            continue
        difference = first_difference(facts[what]["value"], later[what]["value"])
        if difference is not None and ".tensors" in difference:
            fit = difference.partition(".")[0]
            files = [commit.kept / f"{part}-{what}.{fit}.safetensors" for commit in (before, after)]
            difference = f"{fit}: {tensors_apart(*files)}"
        lines.append(Line(part, what, facts[what]["says"], difference))
    return lines, f"before {cost}, after {later_cost}"


def shown(line: Line) -> str:
    """A line of the table."""
    verdict = "equal" if line.difference is None else "DIFFERENT"
    return f"{line.part:<10}  {line.what:<28}  {verdict:<9}  {line.difference or line.says}"


def _processor(*, readable: bool = False) -> str:
    """The processor's model: bits may depend on its vector units."""
    info = Path("/proc/cpuinfo")
    found = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    model = found[0] if found else "unknown processor"
    # Forty characters tell processors apart, and keep the cache's file names short.
    return model if readable else "".join(letter for letter in model.lower() if letter.isalnum())[:40]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nothing_moved", description=__doc__)
    parser.add_argument("before", help="the commit before the change")
    parser.add_argument("after", help="the commit after it")
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help=f"some of {','.join(PARTS)}; default: all")
    parser.add_argument("--cache", type=Path, help="folder that keeps the results of BEFORE")
    parser.add_argument(
        "--workdir", type=Path, help="where to work; kept. Default: a temporary folder, removed in the end"
    )
    parser.add_argument("--before-tree", type=Path, help="a checkout of BEFORE with its .venv, instead of a new one")
    parser.add_argument("--after-tree", type=Path, help="a checkout of AFTER with its .venv; may have changes")
    parser.add_argument("--pip-args", default="", help="words for pip, as PIP_ARGS of the Makefile")
    parser.add_argument("--json", type=Path, help="also write what was found to this file")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [part for part in chosen if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return chosen


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RunFailed, TreeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
