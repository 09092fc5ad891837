"""`make bench-compression`: size, latency and quality of `fusion`, of its student, and of the student's smaller forms.

    python -m benchmarks.compression DATA_FOLDER [--sets beauty] [--seed 17] [--teacher name=…] [--student name=…]

The forms are the student in float32 and in int8, and both as exported programs. Size is all numbers that a bundle
holds, or a program's file. Latency is CPU time of one thread: the median over requests of single users, and a batch of
512 users divided by 512. Quality is NDCG@10 of the test item, and the paired difference from `fusion` over users.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.measured_on import measured_on, note_reading
from benchmarks.sets import SETS, as_judged
from recommender.engine.assignments import parse_assignments
from recommender.engine.compiler import has_compiler
from recommender.engine.context import DEFAULT_SEED, FitContext
from recommender.engine.cost import Stopwatch
from recommender.errors import RecommenderError
from recommender.evaluation.latency import one_thread
from recommender.evaluation.leave_one_out import Ranks, judge
from recommender.evaluation.means import mean_interval95, paired_difference
from recommender.models.next_item import ItemRanker
from recommender.models.next_item.export import export, inputs_of
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.student import Student, StudentConfig
from recommender.sequences import LeaveOneOut, Sequences
from recommender.storage.manifest import write_text
from recommender.training.next_items.fitting import checkpoint_folder
from recommender.training.next_items.keep import USERS_COMPARED

OUTPUT = Path("reports/bench/compression.json")
REQUESTS, BATCH = 200, 512
"""Single requests for the median, and users of the batch, as many as rankers score at a time. Chosen by hand."""
LATENCY_SEED = 1
"""Draws the users whose requests are timed: always the same ones. It has no meaning."""
Score = Callable[[Sequences], Any]


def measure(
    sequences: Sequences,
    data: str,
    *,
    seed: int,
    teacher: dict[str, Any],
    student: dict[str, Any],
    checkpoints: Path | None = None,
) -> list[dict[str, Any]]:
    """All rows of one set.

    Args:
        sequences: The set's events.
        data: The set's name.
        seed: Seed of both fits.
        teacher: Hyperparameters of `fusion` that differ from its defaults.
        student: Hyperparameters of `student` that differ from its defaults.
        checkpoints: Where a killed fit of `fusion` resumes, as in `make bench-quality`.
    """
    split, context = LeaveOneOut.of(sequences), FitContext(seed=seed)
    student_config = StudentConfig.parse(student, owner="student")
    own = checkpoints and checkpoint_folder(checkpoints, sequences, "fusion", "train", seed, teacher)
    stopwatch = Stopwatch(replace(context, checkpoints=own))
    flagship = Fusion.fit(
        split.train,
        held_out_U=split.validation_U,
        config=FusionConfig.parse(teacher, owner="fusion"),
        context=replace(context, checkpoints=own, progress=stopwatch.on_progress),
    )
    seconds = [stopwatch.seconds()["fit_cpu_seconds"]]
    began = time.process_time()
    small = Student.taught(flagship, split.train, held_out_U=split.validation_U, config=student_config, context=context)
    seconds.append(time.process_time() - began)
    students = {"student": small, "student, int8": small.in_int8()}
    rankers: dict[str, ItemRanker[Any]] = {"flagship": flagship, **students}
    tests: dict[str, Ranks] = {}
    rows = []
    for name, ranker in rankers.items():
        tests[name] = judge(ranker, split.train_and_validation, split.test_U)
        note_reading(data, name, "train", seed)
        size = sum(value.nbytes for value in ranker.tensors().values())
        rows.append({"ranker": name, "bytes": size, **latency(ranker.score, split.train_and_validation)})
        rows[-1] |= {**tests[name].summary(), "interval95": mean_interval95(tests[name].ndcg_U())}
        rows[-1] |= {
            "against_flagship": paired_difference(tests[name].ndcg_U(), tests["flagship"].ndcg_U()),
            "fit_cpu_seconds": seconds,
        }
    rows += programs(students, split.train_and_validation)
    facts = {"set": data, "seed": seed, "teacher": teacher, "student": student, "users": sequences.num_users}
    return [{**facts, "items": sequences.items.num, **row, **measured_on()} for row in rows]


def programs(students: dict[str, Student], sequences: Sequences) -> Iterable[dict[str, Any]]:
    """Rows of the students as programs: by torch.export, and by AOTInductor where there is a C++ compiler."""
    compiler = has_compiler()
    if not compiler:
        print("there is no C++ compiler here, so the compiled programs are left out")
    some = sequences.take(np.arange(min(USERS_COMPARED, sequences.num_users)))
    with TemporaryDirectory() as folder:
        for name, student in students.items():
            for compiled in (False, True)[: 1 + compiler]:
                path = Path(folder) / f"{name}-{compiled}.pt2"
                difference = export(student, some, path, compiled=compiled)
                load = torch._inductor.aoti_load_package if compiled else _program
                program, length = load(str(path)), student.model.length

                def score(users: Sequences, program: Any = program, length: int = length) -> Any:
                    with torch.inference_mode():
                        return program(*inputs_of(users, length))

                form = "AOTInductor" if compiled else "torch.export"
                facts = {"ranker": f"{name}, {form}", "bytes": path.stat().st_size, "largest_difference": difference}
                yield {**facts, **latency(score, sequences)}


def _program(path: str) -> Any:
    return torch.export.load(path).module()


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["set"], row["seed"], row["teacher"], row["student"]


def latency(score: Score, sequences: Sequences) -> dict[str, float]:
    """CPU milliseconds of one user's request (median), and of one user within a batch."""
    users = np.flatnonzero(sequences.lengths_U > 0)
    drawn = np.random.default_rng(LATENCY_SEED).choice(users, max(REQUESTS, BATCH))
    one = [sequences.take(drawn[place : place + 1]) for place in range(REQUESTS)]
    many = sequences.take(drawn[:BATCH])
    took = []
    with one_thread():
        for warm in (one[0], many):
            score(warm)
        for user in one:
            began = time.process_time()
            score(user)
            took.append(time.process_time() - began)
        began = time.process_time()
        score(many)
        batch = time.process_time() - began
    return {"ms_a_request": float(np.median(took)) * 1e3, "ms_a_user_of_512": batch / BATCH * 1e3}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    from rich.table import Table

    from recommender.report.terminal import wide

    table = Table(title="Compression: CPU milliseconds, one thread")
    for name in ("set", "ranker", "MB", "ms a request", "ms a user of 512", "NDCG@10", "against fusion", "difference"):
        table.add_column(name)
    for row in rows:
        quality = f"{row['ndcg@10']:.4f}" if "ndcg@10" in row else ""
        against = row.get("against_flagship")
        low, high = against["interval95"] if against else (0.0, 0.0)
        figures = (f"{row['bytes'] / 1e6:.2f}", f"{row['ms_a_request']:.2f}", f"{row['ms_a_user_of_512']:.3f}", quality)
        paired = f"{against['mean']:+.4f} [{low:+.4f}, {high:+.4f}]" if against else ""
        difference = f"{row['largest_difference']:.0e}" if "largest_difference" in row else ""
        table.add_row(row["set"], row["ranker"], *figures, paired, difference)
    wide().print(table)


def main(words: list[str] | None = None) -> int:
    """Measure, write the report with the rows of earlier calls, and print it. The exit code is 2 on an error."""
    parser = argparse.ArgumentParser(prog="make bench-compression", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder that holds ml-1m/ and amazon-beauty/")
    parser.add_argument("--sets", default="beauty", help=f"of {', '.join(SETS)}")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--teacher", action="append", default=[], help="a hyperparameter of fusion: members=1")
    parser.add_argument("--student", action="append", default=[], help="a hyperparameter of the student: width=64")
    parser.add_argument(
        "--checkpoints", type=Path, help="where a killed fit of fusion resumes; the folder of make bench-quality"
    )
    given = parser.parse_args(words)
    if given.data is None:
        print(
            "bench-compression: nothing was measured, because no data folder was given: make bench-compression SHARED=…"
        )
        return 0
    try:
        given_for = {
            name: parse_assignments(getattr(given, name), option=f"--{name}") for name in ("teacher", "student")
        }
        rows = json.loads(OUTPUT.read_text(encoding="utf-8"))["rows"] if OUTPUT.is_file() else []
        for data in given.sets.split(","):
            sequences = as_judged(given.data, data)
            made = measure(sequences, data, seed=given.seed, checkpoints=given.checkpoints, **given_for)
            rows = [row for row in rows if _key(row) != _key(made[0])] + made
            OUTPUT.parent.mkdir(parents=True, exist_ok=True)
            write_text(OUTPUT, json.dumps({"rows": rows}))
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
