"""The parts: what is run in a checkout, and the facts that are read from what it made.

A fact is one thing to compare: `says` is what it holds, in words, and `value` is JSON in which equal means equal. Ids
of requests and of versions are by design of one run or one code, so they are masked: a version is replaced by its
ranker's name.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.nothing_moved import inputs
from benchmarks.nothing_moved.differences import tensor_facts
from benchmarks.nothing_moved.endpoint import Reply, post, running
from benchmarks.nothing_moved.side import RunFailed, Side

Fact = dict[str, Any]
Facts = dict[str, Fact]

FITS = ("gate", "test", "live")
FIGURES = ("ndcg@10", "recall@10", "mrr@10", "users", "interval95", "validation", "counts", "chosen")
"""The compared part of the JSON that `benchmark sequences` writes. The rest is cost, date, commit and machine."""
IDS = ("request_id", "at")
"""Left out of answers and of records in the log. `at` is the wall clock. The decision's own `as_of` is compared."""
WORDING = ("message", "problem")
"""Parts of a refusal that are not compared: status, error code and fields are the contract, sentences are not."""
VERSION = re.compile(r"\b([a-z][a-z0-9_]*)-[0-9a-f]{8,64}\b")


def weights(side: Side) -> Facts:
    """Every campaign ranker's tensors at every boundary, and the figures of the evaluation that read them."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(side.trained_shop.rglob("weights.safetensors")):
        ranker, fit = _json(file.with_name("config.json"))["ranker"], _fit_of(file.parent)
        bundle = _bundle(file)
        if found.setdefault(ranker, {}).setdefault(fit, bundle) != bundle:
            raise RunFailed(f"{side.trained_shop} holds two different bundles of {ranker}, fit {fit}")
        _keep(file, side.kept / f"weights-{ranker}.{fit}.safetensors")
    if missing := {*inputs.BASELINES, inputs.CHALLENGER} - set(found):
        raise RunFailed(f"no bundle of {', '.join(sorted(missing))} in {side.trained_shop}")
    facts = {
        ranker: _fact(f"{len(by_fit)} fits, {_size(*by_fit.values())}", by_fit)
        for ranker, by_fit in sorted(found.items())
    }
    evaluation = _evaluation(side.trained_shop)
    for period in ("gate", "test"):
        title = f"evaluation, {period} period"
        facts[title] = _fact(f"{len(evaluation[period]['rankers'])} rankers, every metric", evaluation[period])
    return facts


def next_items(side: Side) -> Facts:
    """Next-item rankers as the benchmark keeps them: tensors, figures, and the items that they name for every user."""
    folder = side.folder / "next-items"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    events, attributes = folder / "events.csv", folder / "attributes.csv"
    events.write_text(inputs.events())
    attributes.write_text(inputs.attributes())
    facts: Facts = {}
    for ranker, hyperparameters in inputs.BENCHMARKED.items():
        result, kept, answer = (folder / f"{ranker}{end}" for end in (".json", "-kept", "-asked.csv"))
        words = ["--interactions", str(events), "--attributes", str(attributes), "--ranker", ranker, "--seed", "17"]
        chosen = [word for name, value in hyperparameters.items() for word in ("--set", f"{name}={value}")]
        places = ["--output", str(result), "--save", str(kept)]
        side.recommender("judge", *words, *chosen, *places, log=f"judge-{ranker}")
        asked = ["--interactions", str(events), "--bundle", str(kept), "--output", str(answer), "--seen"]
        side.recommender("ask", *asked, log=f"ask-{ranker}")
        (file,) = kept.rglob("weights.safetensors")
        _keep(file, side.kept / f"next-items-{ranker}.bundle.safetensors")
        bundle, figures = _bundle(file), _json(result)
        facts[ranker] = _fact(_size(bundle), {"bundle": bundle})
        facts[f"{ranker}, figures"] = _fact(
            f"NDCG@10 {figures['ndcg@10']:.4f}", {name: figures.get(name) for name in FIGURES}
        )
        rows = answer.read_text().splitlines()
        facts[f"{ranker}, asked"] = _fact(f"{len(rows) - 1:,} rows with scores", rows)
    return facts


def answers(side: Side) -> Facts:
    """The answers of the running endpoint, and its logs of them."""
    home = side.trained_shop
    for log in _logs(home):
        log.unlink()
    asked: list[Reply] = []
    with running(side) as port:
        for request in inputs.requests():
            asked.append((request, *post(port, request, asked)))
    facts: Facts = {}
    for kind in ("answers", "exposures", "refusals"):
        replies = [{"status": status, "body": body} for request, status, body in asked if request.kind == kind]
        facts[kind] = _fact(_kinds(replies), [without_ids(reply, IDS + WORDING) for reply in replies])
    given = [body for request, _, body in asked if request.kind == "answers"]
    if late := [body["degraded_reasons"] for body in given if body.get("degraded_reasons")]:
        raise RunFailed(f"{len(late)} answers are degraded ({late[0]}): the machine is too busy to compare answers")
    by_id: dict[str, list[Any]] = {}
    for log in _logs(home):
        for line in log.read_text().splitlines():
            row = json.loads(line)
            by_id.setdefault(row["request_id"], []).append(without_ids(row, IDS))
    logged = [sorted(by_id.pop(body["request_id"], []), key=lambda row: "user_id" not in row) for body in given]
    decisions, exposures = [rows[:1] for rows in logged], [rows[1:] for rows in logged]
    facts["decision log"] = _fact(f"{sum(map(len, decisions))} records", decisions)
    facts["exposure log"] = _fact(f"{sum(map(len, exposures))} records; {len(by_id)} without a decision", exposures)
    return facts


def table(side: Side) -> Facts:
    """The figures of `make run` on the default data and settings, as printed and to the last digit."""
    home = side.folder / "default"
    shutil.rmtree(home, ignore_errors=True)
    printed = side.recommender("run", log="default-run", at=side.tree, RECOMMENDER__HOME=str(home))
    _, _, final = printed.partition("Final test")
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in final.splitlines()]
    # A ranker's row has five cells, and its second one begins with a figure of three decimals.
    rows = [without_ids(row, ()) for row in rows if len(row) == 5 and re.fullmatch(r"\d\.\d{3}.*", row[1])]
    facts = {"final-test table, as printed": _fact(f"{len(rows)} rankers", rows)}
    for period in ("test", "gate"):
        evaluation = _evaluation(home)[period]
        for ranker, result in sorted(evaluation.pop("rankers").items()):
            auc = result["metrics"]["auc"]["value"]
            facts[f"{period} period, {ranker}"] = _fact(f"AUC {auc:.6f}, every metric, interval and curve", result)
        pairs = f"{evaluation['num_pairs']:,} pairs: gains, slices, counts"
        facts[f"{period} period, the rest"] = _fact(pairs, evaluation)
    return facts


PARTS: dict[str, Callable[[Side], Facts]] = {
    "weights": weights,
    "next-items": next_items,
    "answers": answers,
    "table": table,
}


def without_ids(value: Any, hidden: tuple[str, ...]) -> Any:
    """`value` without the keys in `hidden`, and with its ranker's name in place of every version's id."""
    if isinstance(value, dict):
        return {VERSION.sub(r"\1", k): without_ids(v, hidden) for k, v in value.items() if k not in hidden}
    if isinstance(value, list):
        return [without_ids(each, hidden) for each in value]
    return VERSION.sub(r"\1", value) if isinstance(value, str) else value


def _bundle(file: Path) -> dict[str, Any]:
    """Tensors, and what their rows and columns stand for."""
    return {
        "tensors": tensor_facts(file),
        **{name: _json(file.with_name(f"{name}.json")) for name in ("vocabulary", "schema")},
    }


def _fit_of(bundle: Path) -> str:
    """gate, test or live, as stated in the bundle's lineage, else in the name of its folder."""
    lineage = bundle / "lineage.json"
    said = _json(lineage).get("fit") if lineage.is_file() else None
    if (fit := said or bundle.name) not in FITS:
        raise RunFailed(f"{bundle}: neither its lineage nor its name states which fit it is")
    return str(fit)


def _evaluation(home: Path) -> dict[str, Any]:
    """The newest evaluation below `home`, without ids of versions."""
    # Before the change it lies in the run's own folder only. After it, a note of its origin has the same file name.
    found = (file for file in home.rglob("evaluation.json") if file.parent.name == "evaluation")
    files = sorted(found, key=lambda file: file.stat().st_mtime)
    if not files:
        raise RunFailed(f"no evaluation.json below {home}")
    evaluation: dict[str, Any] = without_ids(_json(files[-1]), ())
    return evaluation


def _logs(home: Path) -> list[Path]:
    """The files of JSON lines whose lines have request ids, decisions before exposures or not."""
    return [file for file in sorted(home.rglob("*.jsonl")) if '"request_id"' in file.read_text()[:200]]


def _kinds(replies: list[dict[str, Any]]) -> str:
    """The number of replies by their source, such as "101 by transformer, 25 by popular"."""
    counted: dict[str, int] = {}
    for reply in replies:
        by = VERSION.sub(r"\1", reply["body"].get("model_version") or f"status {reply['status']}")
        counted[by] = counted.get(by, 0) + 1
    return f"{len(replies)}: " + ", ".join(f"{count} by {by}" for by, count in sorted(counted.items()))


def _fact(says: str, value: Any) -> Fact:
    return {"says": says, "value": value}


def _size(*bundles: dict[str, Any]) -> str:
    tensors = [tensor for bundle in bundles for tensor in bundle["tensors"].values()]
    return f"{len(tensors)} tensors, {sum(tensor['bytes'] for tensor in tensors):,} bytes"


def _keep(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
