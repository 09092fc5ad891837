"""What is kept of a source's validations: good runs, verdicts by data hash, and the changes that a person accepted."""

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.validate_data.outcome import Outcome
from components.validate_data.verdict import Verdict
from recommender.datasets.checks import GROUP, Run
from recommender.errors import SettingsError, suggestion
from recommender.storage.manifest import NAME_DIGITS, write_text

KEPT_RUNS = 120
"""Good runs that are remembered: four months of days."""
SAME_FACTOR, SAME_DIFFERENCE = 1.5, 0.1
"""An accepted change stays accepted while the figure is within this factor, or this difference, of what it was."""


@dataclass(frozen=True)
class Accepted:
    """A change that a person accepted."""

    check: str
    value: float
    reason: str
    who: str
    when: str
    data_hash: str
    """Of the tables in which the change was seen."""

    def covers(self, one: Outcome) -> bool:
        """Whether an outcome is this change, and no larger one."""
        if one.check != self.check or one.value is None:
            return False
        away = abs(one.value - self.value)
        larger = max(abs(one.value), abs(self.value))
        return away <= SAME_DIFFERENCE or (
            one.value * self.value > 0 and larger <= SAME_FACTOR * min(abs(one.value), abs(self.value))
        )


@dataclass(frozen=True)
class Record:
    """The files below `Home.validation_record`."""

    folder: Path

    def runs(self) -> tuple[Run, ...]:
        """The good runs so far, the latest last."""
        return tuple(Run(**one) for one in self._lines("runs.jsonl"))

    def add_run(self, run: Run) -> None:
        """Remember a good run. The same data again is the same run."""
        runs = [one for one in self.runs() if one.data_hash != run.data_hash][-(KEPT_RUNS - 1) :]
        self._write("runs.jsonl", [asdict(one) for one in [*runs, run]])

    def accepted(self) -> tuple[Accepted, ...]:
        """The accepted changes, the latest last."""
        return tuple(Accepted(**one) for one in self._lines("accepted.jsonl"))

    def keep(self, verdict: Verdict, data_hash: str) -> None:
        """Keep what failed, for the terminal and for `accept`: by the hash of the tables, and as the latest."""
        failed = [asdict(one) for one in verdict.outcomes if one.status in ("failed", "accepted")]
        text = json.dumps({"data_hash": data_hash, "outcomes": failed}, indent=1, default=str)
        for name in (data_hash[:NAME_DIGITS], "last"):
            write_text(self._made("verdicts") / f"{name}.json", text)

    def failures(self, data_hash: str = "") -> list[Outcome]:
        """What failed or was accepted in the validation of these tables, or in the latest one."""
        path = self.folder / "verdicts" / f"{data_hash[:NAME_DIGITS] or 'last'}.json"
        if not path.is_file():
            return []
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["outcomes"]
        return [Outcome(**{**one, "rows": tuple(one["rows"])}) for one in found]

    def accept(self, check: str, reason: str) -> list[Accepted]:
        """Accept the failure of a check in the latest validation as a true change, or of all changes of the schema.

        Raises:
            SettingsError: the reason is empty, no such check failed, or it cannot be accepted.
        """
        if not reason.strip():
            raise SettingsError("--reason: say why the change is right; it is kept in the record")
        failed = {one.check: one for one in self.failures()}
        chosen = [name for name in failed if name == check or (check == GROUP and name.startswith(f"{GROUP}."))]
        if not chosen:
            known = suggestion(check, failed) if failed else "nothing failed"
            raise SettingsError(f"--accept {check}: no such check failed in the latest validation; {known}")
        values = {name: value for name in chosen if (value := failed[name].value) is not None}
        if len(values) < len(chosen):
            raise SettingsError(f"--accept {check}: a table without its required columns cannot be accepted; repair it")
        last = json.loads((self.folder / "verdicts" / "last.json").read_text(encoding="utf-8"))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who, data_hash = getpass.getuser(), last["data_hash"]
        made = [Accepted(name, value, reason.strip(), who, now, data_hash) for name, value in values.items()]
        self._write("accepted.jsonl", [asdict(one) for one in [*self.accepted(), *made]])
        return made

    def applied(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes, with those failures marked that a person accepted."""
        accepted = self.accepted()
        return [_marked(one, accepted) if one.status == "failed" else one for one in outcomes]

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]

    def _write(self, name: str, lines: Sequence[dict[str, Any]]) -> None:
        write_text(self._made("") / name, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _marked(one: Outcome, accepted: Sequence[Accepted]) -> Outcome:
    for entry in reversed(accepted):
        if entry.covers(one):
            words = f"accepted by {entry.who} on {entry.when[:10]}: {entry.reason}"
            return replace(one, status="accepted", cause=f"{one.cause} ({words})" if one.cause else words)
    return one
