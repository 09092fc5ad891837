"""`benchmark sequences`: any next-item ranker on any set of sequences."""

from pathlib import Path

from cli.bars import fit_bars
from recommender.engine.processes import is_first
from recommender.errors import SettingsError
from recommender.training.next_items import TrainOn, benchmark_file, dial


def benchmark_sequences(
    interactions: Path,
    attributes: Path | None,
    *,
    ranker: str,
    train_on: TrainOn,
    seed: int,
    output: Path,
    device: str,
    dials: list[str],
    checkpoints: Path | None,
    readings: Path | None,
    cold: bool,
    program: Path | None,
    compiled: bool,
    trials: int,
    study: Path | None,
    bundle: Path | None,
) -> None:
    """Fit, judge, write `output`, and show the figures; of several processes the first one speaks.

    Raises:
        SettingsError: an option is of no use without another one.
    """
    if compiled and program is None:
        raise SettingsError("--compiled: there is no program to compile; name its file with --export")
    if study is not None and not trials:
        raise SettingsError(f"--study {study}: nothing is searched; say how often to try with --trials")
    with fit_bars() as progress:
        content = benchmark_file(
            interactions,
            attributes,
            ranker=ranker,
            train_on=train_on,
            seed=seed,
            output=output,
            device=device,
            config=dict(map(dial, dials)),
            readings=readings,
            checkpoints=checkpoints,
            progress=progress,
            with_cold=cold,
            program=program,
            compiled=compiled,
            trials=trials,
            study=study,
            bundle_folder=bundle,
        )
    if not is_first():
        return
    (low, high), known = content["interval95"]["ndcg@10"], content["counts"]
    few = (
        ""
        if known["users"] == known["users_judged"]
        else f" of {known['users']:,} (the others have fewer than three events)"
    )
    print(
        f"{ranker}, trained on {train_on}: NDCG@10 {content['ndcg@10']:.4f} [{low:.4f}, {high:.4f}], "
        f"recall@10 {content['recall@10']:.4f}, {content['users']:,} users{few}, {known['items']:,} items; "
        f"fitted in {content['fit_cpu_seconds']:.1f} CPU-seconds\n{output}"
    )
    remarks = {
        "targets_seen_before": "users took an item last that they had before; next-items names such items with --seen only",
        "targets_tied_in_time": "users' last two events bear one time; `pos`, or else the file's order, says which is the last",
        "items_without_events": "items are in the attributes only; they compete, too",
    }
    for name, remark in remarks.items():
        if known[name]:
            print(f"{known[name]:,} {remark}")
    if (found := content["search"]) is not None:
        print(f"{found['trials']} trials took {found['cpu_seconds']:.1f} CPU-seconds and chose {found['dials']}")
    if content["cold"] is not None:
        among = {name: content["cold"][f"among_{name}"]["ndcg@10"] for name in ("all", "cold")}
        print(
            f"cold items, {content['cold']['users']:,} users: {among['cold']:.4f} among themselves, {among['all']:.4f} among all"
        )
    if program is not None:
        print(f"{program}: the program's scores differ by {content['export']['largest_difference']:.1e} of the largest")
