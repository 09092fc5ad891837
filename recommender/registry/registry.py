"""Champions and challengers: which version serves, where it came from, and the way back.

    registry/
      versions/<id>/     a trained candidate: fits/{gate,test,live}/ (bundles) + lineage.json, copied and verified
      state.json         champion, canary, previous champions: replaced by one rename
      history.jsonl      every change, append-only

A version's id is a hash of data, configuration, ranker and code: the same inputs give the same version.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.errors import CorruptFileError, RegistryError
from recommender.registry import candidates
from recommender.registry.candidates import fits, lineage, version_of
from recommender.storage.home import Home
from recommender.storage.journal import Journal
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest


@dataclass(frozen=True)
class Serving:
    """A version that answers requests: since when, for which share of users, and what it was made from."""

    version: str
    since: datetime
    share: float
    lineage: Mapping[str, Any]

    @property
    def ranker(self) -> str:
        return str(self.lineage["ranker"])


@dataclass(frozen=True)
class Status:
    """What serves. `previous`: earlier champions, the latest last; `rollback` goes back along it."""

    champion: Serving | None
    canary: Serving | None
    previous: tuple[str, ...]


@dataclass(frozen=True)
class Registry:
    """The versions below `home`/registry. Reading needs no lock; every change takes it."""

    home: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def folder(self) -> Path:
        return Home(self.home).registry

    @property
    def _journal(self) -> Journal:
        return Journal(self.folder)

    def add(self, candidate: Path) -> str:
        """Copy a trained candidate in, whole and verified, and return its version id. A second call changes nothing.

        Raises:
            CorruptFileError: a bundle's file does not have the SHA-256 that its manifest names.
            RegistryError: the candidate has no live fit, or its lineage lacks a part of its identity.
        """
        version = version_of(candidate)
        with self._journal.locked():
            target = self._path(version)
            if target.is_dir() and _is_whole(target):
                return version
            with whole_folder(target) as copy:
                shutil.copytree(candidate, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
                for fit in fits(copy).values():
                    read_manifest(fit)
                write_manifest(copy, kind="version", version=version)
            self._journal.commit(self._journal.state(), **self._event("added", version, lineage=lineage(target)))
        return version

    def champion(self) -> str | None:
        """The version that serves everyone whom no canary serves; None before the first promotion."""
        entry = self._journal.state().get("champion")
        return None if entry is None else str(entry["version"])

    def canary(self) -> Serving | None:
        """The version that serves a share of the users beside the champion, if there is one."""
        return self._serving(self._journal.state().get("canary"))

    def versions(self) -> tuple[str, ...]:
        """Every version there is, by name."""
        folder = self.folder / "versions"
        return tuple(sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))) if folder.is_dir() else ()

    def start_canary(self, version: str, share: float, verdict: Mapping[str, Any] | None = None) -> None:
        """Let `version` serve `share` of the users beside the champion, in place of any canary before it.

        Raises:
            RegistryError: no champion yet, an unknown version, the champion itself, or a share outside (0, 1).
            CorruptFileError: the version's live bundle is damaged.
        """
        if not 0 < share < 1:
            raise RegistryError(f"a canary's share of users must lie between 0 and 1, not {share}")
        self.bundle(version)
        with self._journal.locked():
            state = self._journal.state()
            if state.get("champion") is None:
                raise RegistryError("there is no champion for a canary to stand beside; promote a version first")
            if state["champion"]["version"] == version:
                raise RegistryError(f"{version} is the champion: it serves already")
            entry = {"version": version, "since": self.clock().isoformat(), "share": share}
            self._journal.commit(
                {**state, "canary": entry}, **self._event("canary started", version, share=share, verdict=verdict)
            )

    def stop_canary(self, reason: str = "") -> None:
        """The champion serves everyone again.

        Raises:
            RegistryError: no canary serves.
        """
        with self._journal.locked():
            state = self._journal.state()
            if state.get("canary") is None:
                raise RegistryError("no canary serves, so there is none to stop")
            event = self._event("canary stopped", state["canary"]["version"], reason=reason)
            self._journal.commit({**state, "canary": None}, **event)

    def promote(self, version: str, reason: str = "") -> None:
        """Make `version` the champion. The champion before it is kept for `rollback`; a canary that is another version stops.

        Raises:
            RegistryError: an unknown version.
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
        """Undo the latest change of what serves: stop the canary if there is one, else bring the previous champion back.

        Returns the version that serves everyone now.

        Raises:
            RegistryError: there is nothing to go back to.
            CorruptFileError: the previous champion's live bundle is damaged; the present one stays.
        """
        if self.canary() is not None:
            self.stop_canary(reason or "rolled back")
            return str(self.champion())
        with self._journal.locked():
            state = self._journal.state()
            if not state.get("previous"):
                raise RegistryError("there is no earlier champion to go back to")
            *earlier, version = state["previous"]
            self.bundle(version)
            entry = {"version": version, "since": self.clock().isoformat()}
            event = self._event("rolled back", version, instead_of=state["champion"]["version"], reason=reason)
            self._journal.commit({"champion": entry, "canary": None, "previous": earlier}, **event)
        return str(version)

    def status(self) -> Status:
        """What serves, since when, from which data and configuration."""
        state = self._journal.state()
        return Status(
            champion=self._serving(state.get("champion")),
            canary=self._serving(state.get("canary")),
            previous=tuple(state.get("previous", ())),
        )

    def history(self) -> list[dict[str, Any]]:
        """Every change, oldest first: `seq`, `at`, `what`, `version` and its particulars."""
        return self._journal.history()

    def path(self, version: str) -> Path:
        """The folder of a version.

        Raises:
            RegistryError: there is no such version; the message lists those there are.
        """
        folder = self._path(version)
        if "/" in version or version.startswith(".") or not folder.is_dir():
            raise RegistryError(f"no version is called {version!r}; there are {', '.join(self.versions()) or 'none'}")
        return folder

    def bundle(self, version: str, fit: str = "live") -> Path:
        """The verified bundle of one fit of a version.

        Raises:
            RegistryError: no such version or fit.
            CorruptFileError: a file of the bundle is missing, truncated or altered.
        """
        found = fits(self.path(version))
        if fit not in found:
            raise RegistryError(f"version {version} has no {fit} fit; it has {', '.join(found)}")
        read_manifest(found[fit])
        return found[fit]

    def lineage(self, version: str) -> dict[str, Any]:
        """Where a version came from."""
        return lineage(self.path(version))

    def fit_before(self, version: str, moment: datetime) -> Path:
        """The newest fit of a version whose boundary is not after `moment`: it has seen nothing later."""
        return candidates.fit_before(self.path(version), moment)

    def record_verdict(self, version: str, verdict: Mapping[str, Any]) -> None:
        """Keep what the gate said of a version, as an event of the history."""
        self.path(version)
        with self._journal.locked():
            self._journal.commit(self._journal.state(), **self._event("judged", version, verdict=dict(verdict)))

    def verdicts(self, version: str) -> list[dict[str, Any]]:
        """Everything that the gate has said of a version, oldest first."""
        events = self.history()
        return [e["verdict"] for e in events if e["what"] == "judged" and e["version"] == version]

    def settled(self, version: str) -> list[dict[str, Any]]:
        """The verdicts that need no second look: every HOLD for what was learnt, and a PROMOTE that was acted upon.

        A run killed between its verdict and the canary's start judges again and goes on. A HOLD for latency alone is of that
        moment and that machine: it is measured again.
        """
        settled: list[dict[str, Any]] = []
        promised: list[dict[str, Any]] = []
        for event in self.history():
            if event["version"] != version:
                continue
            if event["what"] == "judged" and event["verdict"].get("new", True):
                if event["verdict"].get("decision") == "PROMOTE":
                    promised.append(event["verdict"])
                elif failed_checks(event["verdict"]) != ["latency"]:
                    settled.append(event["verdict"])
            elif event["what"] in ("canary started", "promoted"):
                settled += promised
                promised = []
        return settled

    def _path(self, version: str) -> Path:
        return self.folder / "versions" / version

    def _event(self, what: str, version: str, **particulars: Any) -> dict[str, Any]:
        return {"at": self.clock().isoformat(), "what": what, "version": version, **particulars}

    def _serving(self, entry: Mapping[str, Any] | None) -> Serving | None:
        if entry is None:
            return None
        version, since = str(entry["version"]), datetime.fromisoformat(entry["since"])
        return Serving(version, since, float(entry.get("share", 1.0)), lineage(self.path(version)))


def _is_whole(version: Path) -> bool:
    try:
        read_manifest(version)
        for fit in fits(version).values():
            read_manifest(fit)
    except CorruptFileError:
        return False
    return True


def failed_checks(verdict: Mapping[str, Any]) -> list[str]:
    """Names of the checks that a recorded verdict found broken."""
    return [str(check.get("name")) for check in verdict.get("checks", []) if not check.get("passed", True)]
