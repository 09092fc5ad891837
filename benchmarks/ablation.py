"""`make bench-ablation`: how much each part of `fusion` gains, with intervals over users, without reading a test item.

    python -m benchmarks.ablation DATA_FOLDER [--sets beauty,ml-1m,journey,ml-100k,fashions,reseller] [--seeds 17,18]
        [--members] [--parts gated,width] [--set name=…] [--checkpoints FOLDER]

Each user's last item is removed, and everything happens one item earlier than in `make bench-quality`: its validation
item is judged here, and the item before that stops and mixes the fit. `fusion` is fitted once per seed. Then each
expert is left out and only the gate is fitted again.

`--parts` names hyperparameters of the transformers: for each one all of `fusion` is fitted again without it, and its
first transformer is judged alone as well. `--members` instead trains one transformer, and one without each of its
parts (or of those that `--parts` names).

A user's gain is the mean over the seeds. With `--checkpoints` a killed fit resumes. The rows of a set are written when
all its seeds are done, so a killed run leaves the rows of the run before.

Shapes: U users.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation_variants import OWN_PARTS, left_out
from benchmarks.measured_on import measured_on
from benchmarks.options import whole_numbers
from benchmarks.sets import PACKAGED, SETS, as_judged
from recommender.engine.assignments import parse_assignments
from recommender.errors import RecommenderError, SettingsError
from recommender.evaluation.means import paired_difference
from recommender.models.next_item.fusion import FusionConfig
from recommender.storage.manifest import write_text

OUTPUT = Path("reports/bench/ablation.json")


def rows_of(gains: Mapping[str, list[NDArray[np.float64]]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per variant, compared with the first one (`whole: part` with `whole`). Gains are means over the seeds."""
    mean_U = {name: np.mean(of_seeds, axis=0) for name, of_seeds in gains.items()}
    rows = []
    for name, gain_U in mean_U.items():
        whole = name.partition(": ")[0]
        against = whole if whole in mean_U and whole != name else next(iter(mean_U))
        row = {**facts, "variant": name, "ndcg@10": float(gain_U.mean())}
        row |= {"by_seed": [float(one_U.mean()) for one_U in gains[name]], "against": against}
        rows.append(row | paired_difference(gain_U, mean_U[against]))
    return rows


def _requested_parts(words: str) -> list[str]:
    """The hyperparameters that --parts names.

    Raises:
        SettingsError: One of them is not a part that can be left out.
    """
    only = [part.strip() for part in words.split(",") if part.strip()]
    known = {name for without in OWN_PARTS.values() for name in without} | {"width"}
    if unknown := [name for name in only if name not in known]:
        raise SettingsError(f"--parts: unknown part {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return only


def _replaced(row: dict[str, Any], found: list[dict[str, Any]], *, keep: bool) -> bool:
    """Whether an earlier row is replaced by the rows `found` of the same set.

    With `keep`, a row of the same seeds, hyperparameters and commit stays, unless it was measured again.
    """
    if (row["set"], row["of"]) != (found[0]["set"], found[0]["of"]):
        return False
    alike = all(row[one] == found[0][one] for one in ("seeds", "config", "commit"))
    return not (keep and alike) or row["variant"] in [one["variant"] for one in found]


def main(words: list[str] | None = None) -> int:
    """Measure, print, and write the report with the rows of other sets. The exit code is 2 on an error."""
    parser = argparse.ArgumentParser(prog="make bench-ablation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with ml-1m/ and amazon-beauty/")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join((*SETS, *PACKAGED))}")
    parser.add_argument("--seeds", type=whole_numbers, default="17", help="such as 17,18")
    parser.add_argument("--members", action="store_true", help="train one transformer, and one without each part")
    parser.add_argument("--parts", default="", help="hyperparameters of the transformers: gated,relative")
    parser.add_argument(
        "--set", action="append", default=[], dest="hyperparameters", help="a hyperparameter of fusion: epochs=20"
    )
    parser.add_argument("--checkpoints", type=Path, help="folder where a killed fit resumes")
    given = parser.parse_args(words)
    if given.data is None and not set(given.sets.split(",")) <= set(PACKAGED):
        print("bench-ablation: nothing was measured, because no data folder was given: make bench-ablation SHARED=…")
        return 0
    rows = json.loads(OUTPUT.read_text(encoding="utf-8"))["rows"] if OUTPUT.is_file() else []
    try:
        config, only = parse_assignments(given.hyperparameters), _requested_parts(given.parts)
        FusionConfig.parse(config, owner="fusion")  # refused before anything is fitted
        for data in given.sets.split(","):
            sequences = as_judged(given.data or Path(), data)
            facts = {"set": data, "of": "transformer" if given.members else "flagship", "seeds": given.seeds}
            gains: dict[str, list[NDArray[np.float64]]] = {}
            for seed in given.seeds:
                of = {"members": given.members, "only": only, "seed": seed, "checkpoints": given.checkpoints}
                variants = left_out(sequences, config, **of)
                for name, gain_U in variants:
                    gains.setdefault(name, []).append(gain_U)
                    print(f"{data}, seed {seed}, {name}: {gain_U.mean():.4f}", flush=True)
            found = rows_of(gains, {**facts, "config": config, **measured_on()})
            rows = [row for row in rows if not _replaced(row, found, keep=bool(only))] + found
            OUTPUT.parent.mkdir(parents=True, exist_ok=True)
            write_text(OUTPUT, json.dumps({"rows": rows}, indent=1))
            for row in found:
                low, high = row["interval95"]
                beside = f"{row['mean']:+.4f} [{low:+.4f}, {high:+.4f}] against {row['against']}"
                print(f"{data}, {row['variant']}: {row['ndcg@10']:.4f}, {beside}")
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
