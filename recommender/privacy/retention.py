"""Finds what lies in a home, is older than its retention time, and is not needed by anything.

    runs         runs/<id> and kfp/<id>: logs and artifacts. Kept: the newest run, and those that published a result
    checkpoints  checkpoints/<fit>: a later training of the same data and settings resumes from them
    versions     registry/versions/<id>. Kept: champion, canary, earlier champions, what an endpoint answers with now,
                 and the versions of the published evaluation
    catalogues   catalogue.versions/<hash>. Kept: the one in use. The age counts from its replacement
    quarantine   the folders of tables with rows that were set aside. Kept: those of the runs that are kept
    decisions    days and segments of the decision log, by the day of the decisions. Kept: those since the canary's
                 start or the start of a live campaign
    sources      days/<source> and last_features/<source>: the next run of that source takes all days as it has them.
                 Kept: those of the source in the settings

Anything else in a home, such as published results and the figures of the last valid tables, has no retention time.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from recommender.decision_tables.days import days_of
from recommender.decisions.names import SegmentName, segments_in
from recommender.evaluation.document import Evaluation
from recommender.matching.catalogue import Catalogue
from recommender.registry import Registry
from recommender.settings import RetentionSettings, Settings
from recommender.storage.home import Home, ServingState, source_name
from recommender.storage.manifest import MANIFEST

KINDS = tuple(RetentionSettings.model_fields)
QUARANTINE = "quarantine"
"""Folder of set-aside rows in a folder of tables (`recommender.datasets.write`)."""
Limits = Mapping[str, timedelta]
"""Kind -> its retention time. A kind that is missing is kept for ever."""


@dataclass(frozen=True)
class Leftover:
    """Files or folders that belong together, are old, and are not needed."""

    kind: str
    name: str
    paths: tuple[Path, ...]
    changed: datetime
    """When the newest of their files was written or the folder used again. For a catalogue, when it was replaced."""
    num_bytes: int


@dataclass(frozen=True)
class Kept:
    """What is old, but needed."""

    kind: str
    name: str
    reason: str


def limits_of(retention: RetentionSettings) -> dict[str, timedelta]:
    """Return the retention times of the settings, without the kinds that are kept for ever."""
    days = {
        "runs": retention.runs,
        "checkpoints": retention.checkpoints,
        "versions": retention.versions,
        "catalogues": retention.catalogues,
        "quarantine": retention.quarantine,
        "decisions": retention.decisions,
        "sources": retention.sources,
    }
    return {kind: timedelta(days=number) for kind, number in days.items() if number is not None}


def find(settings: Settings, limits: Limits, now: datetime) -> tuple[list[Leftover], list[Kept]]:
    """Find what is older than its limit at `now`: what nothing needs, oldest first of each kind, and what is needed.

    Raises:
        CorruptFileError: the registry's state, the published evaluation or the catalogue is damaged, so that it is not
            known what is needed.
    """
    home = Home.of(settings)
    finders = {
        "runs": _runs,
        "checkpoints": _checkpoints,
        "versions": _versions,
        "catalogues": _catalogues,
        "quarantine": _quarantine,
        "decisions": _decisions,
        "sources": _sources,
    }
    leftovers: list[Leftover] = []
    kept: list[Kept] = []
    for kind, limit in limits.items():
        found = [(leftover, reason) for leftover, reason in finders[kind](settings, home, now)]
        old = [(leftover, reason) for leftover, reason in found if leftover.changed <= now - limit]
        leftovers += sorted(
            (leftover for leftover, reason in old if not reason), key=lambda one: (one.changed, one.name)
        )
        kept += [Kept(kind, leftover.name, reason) for leftover, reason in old if reason]
    # The tables of a run that goes need no line of their own.
    going = [path for one in leftovers if one.kind == "runs" for path in one.paths]
    return [
        one for one in leftovers if one.kind != "quarantine" or not any(one.paths[0].is_relative_to(p) for p in going)
    ], kept


_Found = Iterator[tuple[Leftover, str]]
"""Leftovers, each with the reason why it is needed. Empty: it is not."""


def _runs(settings: Settings, home: Home, now: datetime) -> _Found:
    needed = _needed_runs(home)
    for run_id, leftover in _all_runs(home).items():
        yield leftover, needed.get(run_id, "")


def _all_runs(home: Home) -> dict[str, Leftover]:
    names = {path.name for folder in (home.runs, home.pipeline_artifacts) for path in _folders(folder)}
    names.discard(home.pipeline_cache.name)
    # Artifacts go first: what has no run folder any more would still be found by them, but not the other way round.
    return {name: _leftover("runs", name, (home.run_artifacts(name), home.run(name).root)) for name in sorted(names)}


def _needed_runs(home: Home) -> dict[str, str]:
    runs = _all_runs(home)
    needed = {max(runs, key=lambda name: (runs[name].changed, name)): "the newest run"} if runs else {}
    for published in home.published.everything:
        try:
            run = str(json.loads(home.published.origin(published).read_text(encoding="utf-8"))["run"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # never published, or by a step that does not know its run
        needed[run] = f"published {published.name}"
    return needed


def _checkpoints(settings: Settings, home: Home, now: datetime) -> _Found:
    for folder in _folders(home.checkpoints):
        yield _leftover("checkpoints", folder.name, (folder,)), ""


def _versions(settings: Settings, home: Home, now: datetime) -> _Found:
    registry = Registry(home.root)
    needed = dict.fromkeys(registry.referenced(), "serves, or may be rolled back to")
    if home.published.evaluation.is_dir():
        evaluation = Evaluation.read(home.published.evaluation)
        for candidate in evaluation.candidates.values():
            needed.setdefault(candidate.version, "in the published evaluation")
    for version in _answering(settings):
        needed.setdefault(version, "the endpoint answers with it")
    for version in registry.versions():
        yield _leftover("versions", version, (registry.path(version),)), needed.get(version, "")


def _answering(settings: Settings) -> Iterator[str]:
    """Versions that this machine's endpoint answers with: older ones where the champion does not load."""
    try:
        deployed = json.loads(ServingState.of(settings).deployed.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    yield from (str(deployed[role]) for role in ("champion", "canary") if deployed.get(role))


def _catalogues(settings: Settings, home: Home, now: datetime) -> _Found:
    if not home.catalogue.is_symlink():
        return
    current = home.catalogue.resolve()
    # Readers may have had a catalogue open until it was replaced, however long before it was written.
    replaced = _time(home.catalogue.lstat().st_mtime)
    for folder in _folders(home.catalogue_versions):
        reason = "in use" if folder.resolve() == current else ""
        yield _leftover("catalogues", folder.name, (folder,), not_before=replaced), reason


def _quarantine(settings: Settings, home: Home, now: datetime) -> _Found:
    needed = _needed_runs(home)
    for run_id in _all_runs(home):
        artifacts = home.run_artifacts(run_id)
        for rows in sorted(artifacts.rglob(QUARANTINE)):
            # The manifest of the tables names the rows too, so both go. A later run makes them again if it needs them.
            if (rows.parent / MANIFEST).is_file():
                name = str(rows.parent.relative_to(home.pipeline_artifacts))
                yield _leftover("quarantine", name, (rows.parent,)), needed.get(run_id, "")


def _decisions(settings: Settings, home: Home, now: datetime) -> _Found:
    since, why = _needed_decisions(home, now)
    for path in segments_in(home.decisions) if home.decisions.is_dir() else ():
        name = SegmentName.of(path)
        if name is not None:
            ends = datetime.strptime(name.day, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
            leftover = _leftover("decisions", path.name, (path,), not_before=ends)
            yield leftover, why if since is not None and leftover.changed > since else ""
    for day in days_of(home):
        ends = datetime.combine(day.date, time(), UTC) + timedelta(days=1)
        # A day's age is that of its decisions. A late confirmation changes its files and must not keep it longer.
        leftover = replace(_leftover("decisions", day.folder.name, (day.folder,)), changed=ends)
        yield leftover, why if since is not None and ends > since else ""


def _needed_decisions(home: Home, now: datetime) -> tuple[datetime | None, str]:
    """The moment from which decisions are needed, and for what."""
    reasons: dict[datetime, str] = {}
    canary = Registry(home.root).canary()
    if canary is not None:
        reasons[canary.since] = f"made since the canary {canary.version} serves"
    if home.catalogue.exists():
        catalogue = Catalogue.load(home.catalogue)
        live = catalogue.live(round(now.timestamp() * 1e6))
        if len(live):
            first = live[catalogue.campaign_starts_C[live].argmin()]
            reasons[_time(int(catalogue.campaign_starts_C[first]) / 1e6)] = (
                f"made since the start of {catalogue.campaign_ids[first]}, whose outcomes are still open"
            )
    return (None, "") if not reasons else min(reasons.items())


def _sources(settings: Settings, home: Home, now: datetime) -> _Found:
    for name in sorted({folder.name for place in home.of_sources for folder in _folders(place)}):
        reason = "the source in the settings" if name == source_name(settings) else ""
        yield _leftover("sources", name, tuple(place / name for place in home.of_sources)), reason


def _leftover(kind: str, name: str, paths: tuple[Path, ...], not_before: datetime | None = None) -> Leftover:
    changed, num_bytes = 0.0, 0
    for path in paths:
        for stat in _stats(path):
            changed, num_bytes = max(changed, stat.st_mtime), num_bytes + stat.st_size
    moment = _time(changed)
    return Leftover(kind, name, paths, moment if not_before is None else max(moment, not_before), num_bytes)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Stats of a file, or of a folder and the files in it. What vanishes meanwhile is left out.

    Folders inside do not count: taking the quarantine out of a run must not make the run new.
    """
    try:
        yield path.lstat()
        for folder, _, names in os.walk(path):
            for name in names:
                with suppress(FileNotFoundError):
                    yield (Path(folder) / name).lstat()
    except FileNotFoundError:
        return


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones, which are half-written or about to go."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _time(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
