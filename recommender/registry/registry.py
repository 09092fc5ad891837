"""The registry: which versions exist, which one serves, where each came from, and how to roll back.

    registry/
      versions/<id>/     a trained candidate: fits/{gate,test,live}/ (bundles) and lineage.json, copied and verified
      state.json         champion, canary and previous champions, replaced by one rename
      history.jsonl      every change, append-only

A version's id is a hash of data, configuration, ranker and code, so the same inputs give the same version.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.errors import CorruptFileError, RegistryError
from recommender.registry.candidates import fits, lineage, version_of
from recommender.storage.home import Home
from recommender.storage.journal import Journal
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest


@dataclass(frozen=True)
class Serving:
    """A version that answers requests."""

    version: str
    since: datetime
    share: float
    """Share of users that it serves."""
    lineage: Mapping[str, Any]

    @property
    def ranker(self) -> str:
        """Name of its ranker."""
        return str(self.lineage["ranker"])


@dataclass(frozen=True)
class Status:
    """The serving versions. `previous` are earlier champions, latest last. `rollback` goes back to them one by one."""

    champion: Serving | None
    canary: Serving | None
    previous: tuple[str, ...]


@dataclass(frozen=True)
class Registry:
    """The versions below `home`/registry. Reading needs no lock, every change takes one."""

    home: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def folder(self) -> Path:
        """The folder of the registry."""
        return Home(self.home).registry

    @property
    def versions_folder(self) -> Path:
        """The folder of all versions, and of hidden folders that are half-written or about to be deleted."""
        return self.folder / "versions"

    @property
    def readings(self) -> Path:
        """The log of how often a final test was read, one line of JSON each time."""
        return self.folder / "readings.jsonl"

    @property
    def _journal(self) -> Journal:
        return Journal(self.folder)

    def add(self, candidate: Path) -> str:
        """Copy and verify a trained candidate, and return its version id. A second call changes nothing.

        Raises:
            CorruptFileError: a file of a bundle does not have the SHA-256 in its manifest.
            RegistryError: the candidate has no live fit, or its lineage is incomplete.
        """
        version = version_of(candidate)
        with self._journal.locked():
            target = self._path(version)
            if target.is_dir() and _is_whole(target):
                target.touch()  # in use again, so it is not old
                return version
            with whole_folder(target) as copy:
                shutil.copytree(candidate, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
                for fit in fits(copy).values():
                    read_manifest(fit)
                write_manifest(copy, kind="version", version=version)
            self._journal.commit(self._journal.state(), **self._event("added", version, lineage=lineage(target)))
        return version

    def champion(self) -> str | None:
        """Return the version that serves all users whom no canary serves, or None before the first promotion."""
        entry = self._journal.state().get("champion")
        return None if entry is None else str(entry["version"])

    def canary(self) -> Serving | None:
        """Return the version that serves a share of the users beside the champion, if there is one."""
        return self._serving(self._journal.state().get("canary"))

    def versions(self) -> tuple[str, ...]:
        """List all versions, by name."""
        folder = self.versions_folder
        return tuple(sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))) if folder.is_dir() else ()

    def start_canary(self, version: str, share: float, verdict: Mapping[str, Any] | None = None) -> None:
        """Let `version` serve `share` of the users beside the champion, in place of any canary before it.

        Raises:
            RegistryError: there is no champion yet, the version is unknown or the champion itself, or the share is not
                between 0 and 1.
            CorruptFileError: the version's live bundle is damaged.
        """
        if not 0 < share < 1:
            raise RegistryError(f"share of a canary must be between 0 and 1, both excluded (got {share})")
        self.bundle(version)
        with self._journal.locked():
            state = self._journal.state()
            if state.get("champion") is None:
                raise RegistryError(
                    f"{self.folder} has no champion beside which {version} could serve; promote one first"
                )
            if state["champion"]["version"] == version:
                raise RegistryError(f"{version} is the champion already, so it cannot be a canary")
            entry = {"version": version, "since": self.clock().isoformat(), "share": share}
            self._journal.commit(
                {**state, "canary": entry}, **self._event("canary started", version, share=share, verdict=verdict)
            )

    def stop_canary(self, reason: str = "") -> None:
        """Stop the canary, so that the champion serves all users again.

        Raises:
            RegistryError: there is no canary.
        """
        with self._journal.locked():
            state = self._journal.state()
            if state.get("canary") is None:
                raise RegistryError(f"{self.folder} has no canary to stop")
            event = self._event("canary stopped", state["canary"]["version"], reason=reason)
            self._journal.commit({**state, "canary": None}, **event)

    def end_canary(self, canary: Serving, reason: str) -> bool:
        """End exactly this canary, because it is sick, and tell whether this call did it.

        Several replicas may find the same canary sick. The first one ends it, and the others change nothing. A canary
        that was started since then, even of the same version, stays.
        """
        with self._journal.locked():
            state = self._journal.state()
            now = self._serving(state.get("canary"))
            if now is None or (now.version, now.since) != (canary.version, canary.since):
                return False
            event = self._event("canary ended", canary.version, reason=reason)
            self._journal.commit({**state, "canary": None}, **event)
        return True

    def promote(self, version: str, reason: str = "") -> None:
        """Make `version` the champion and stop any canary. The champion before it is kept for `rollback`.

        Raises:
            RegistryError: the version is unknown.
            CorruptFileError: its live bundle is damaged; the champion stays.
        """
        self.bundle(version)
        with self._journal.locked():
            state = self._journal.state()
            champion = state.get("champion")
            if champion is not None and champion["version"] == version:
                return
            previous = [*state.get("previous", []), *([champion["version"]] if champion else [])]
            entry = {"version": version, "since": self.clock().isoformat()}
            after = {"champion": entry, "canary": None, "previous": previous}
            self._journal.commit(after, **self._event("promoted", version, reason=reason))

    def rollback(self, reason: str = "") -> str:
        """Stop the canary if there is one, else bring the previous champion back. Returns the version that serves now.

        Raises:
            RegistryError: there is nothing to go back to.
            CorruptFileError: the previous champion's live bundle is damaged; the current one stays.
        """
        if self.canary() is not None:
            self.stop_canary(reason or "rolled back")
            return str(self.champion())
        with self._journal.locked():
            state = self._journal.state()
            if not state.get("previous"):
                raise RegistryError(f"{self.folder} has no earlier champion to go back to")
            *earlier, version = state["previous"]
            self.bundle(version)
            entry = {"version": version, "since": self.clock().isoformat()}
            event = self._event("rolled back", version, instead_of=state["champion"]["version"], reason=reason)
            self._journal.commit({"champion": entry, "canary": None, "previous": earlier}, **event)
        return str(version)

    def remove(self, version: str, to: Path, *, unchanged_since: datetime) -> None:
        """Move a version that does not serve and cannot come back by `rollback` to the new path `to`.

        Raises:
            RegistryError: there is no such version, it is champion, canary or an earlier champion, or it was added
                again after `unchanged_since`.
        """
        with self._journal.locked():
            state = self._journal.state()
            if version in referenced(state):
                raise RegistryError(f"{version} serves or may be rolled back to, so it cannot be removed")
            folder = self.path(version)
            # A second of tolerance: file systems round times.
            if folder.stat().st_mtime > unchanged_since.timestamp() + 1:
                raise RegistryError(f"{version} was added again, so it is not removed")
            folder.rename(to)
            self._journal.commit(state, **self._event("removed", version))

    def referenced(self) -> tuple[str, ...]:
        """List champion, canary and earlier champions."""
        return referenced(self._journal.state())

    def status(self) -> Status:
        """Return what serves, since when, and from which data and configuration."""
        state = self._journal.state()
        return Status(
            champion=self._serving(state.get("champion")),
            canary=self._serving(state.get("canary")),
            previous=tuple(state.get("previous", ())),
        )

    def history(self) -> list[dict[str, Any]]:
        """List all changes, the oldest first, each with `seq`, `at`, `what`, `version` and facts of its kind."""
        return self._journal.history()

    def path(self, version: str) -> Path:
        """Return the folder of a version.

        Raises:
            RegistryError: there is no such version; the message lists those that exist.
        """
        folder = self._path(version)
        if "/" in version or version.startswith(".") or not folder.is_dir():
            raise RegistryError(
                f"{self.folder} has no version {version!r}; it has {', '.join(self.versions()) or 'none'}"
            )
        return folder

    def bundle(self, version: str, fit: str = "live") -> Path:
        """Return the bundle of one fit of a version, verified.

        Raises:
            RegistryError: there is no such version or fit.
            CorruptFileError: a file of the bundle is missing, truncated or altered.
        """
        folders = fits(self.path(version))
        if fit not in folders:
            raise RegistryError(f"version {version} has no fit {fit!r}; it has {', '.join(folders)}")
        read_manifest(folders[fit])
        return folders[fit]

    def lineage(self, version: str) -> dict[str, Any]:
        """Return where a version came from."""
        return lineage(self.path(version))

    @contextmanager
    def recording(self, version: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Lock the registry while the gate decides on a version. Yields what records the verdict in the history."""
        self.path(version)

        def record(verdict: Mapping[str, Any]) -> None:
            self._journal.commit(self._journal.state(), **self._event("judged", version, verdict=dict(verdict)))

        with self._journal.locked():
            yield record

    def settled(self, version: str) -> list[dict[str, Any]]:
        """List the verdicts on a version that need no repetition: HOLD, and PROMOTE if it was carried out.

        A run that was killed between its verdict and the canary's start decides again. So does a run after a HOLD for
        latency alone, because latency depends on the moment and the machine.
        """
        settled: list[dict[str, Any]] = []
        not_carried_out: list[dict[str, Any]] = []
        for event in self.history():
            if event["version"] != version:
                continue
            if event["what"] == "judged" and event["verdict"].get("new", True):
                if event["verdict"].get("decision") == "PROMOTE":
                    not_carried_out.append(event["verdict"])
                elif failed_checks(event["verdict"]) != ["latency"]:
                    settled.append(event["verdict"])
            elif event["what"] in ("canary started", "promoted"):
                settled += not_carried_out
                not_carried_out = []
        return settled

    def _path(self, version: str) -> Path:
        return self.versions_folder / version

    def _event(self, what: str, version: str, **facts: Any) -> dict[str, Any]:
        return {"at": self.clock().isoformat(), "what": what, "version": version, **facts}

    def _serving(self, entry: Mapping[str, Any] | None) -> Serving | None:
        if entry is None:
            return None
        version, since = str(entry["version"]), datetime.fromisoformat(entry["since"])
        return Serving(version, since, float(entry.get("share", 1.0)), lineage(self.path(version)))


def referenced(state: Mapping[str, Any]) -> tuple[str, ...]:
    """List the versions that a state of the registry names."""
    serving = [state[role]["version"] for role in ("champion", "canary") if state.get(role)]
    return (*serving, *state.get("previous", ()))


def _is_whole(version: Path) -> bool:
    try:
        read_manifest(version)
        for fit in fits(version).values():
            read_manifest(fit)
    except CorruptFileError:
        return False
    return True


def failed_checks(verdict: Mapping[str, Any]) -> list[str]:
    """List the names of the checks that failed in a recorded verdict."""
    return [str(check.get("name")) for check in verdict.get("checks", []) if not check.get("passed", True)]
