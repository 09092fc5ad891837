"""Every error that the platform raises on purpose. A message says what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown `name`: the nearest known one, or all where none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


class RecommenderError(Exception):
    """Base of all errors raised on purpose: the command line prints its message and exits with 2, without a traceback."""


class SettingsError(RecommenderError):
    """A settings or judgement file has an unknown key, a wrong type or an impossible combination."""


class SourceError(RecommenderError):
    """A source file is missing, unreadable, or lacks what the adapter needs. Names the file."""


class ContractError(RecommenderError):
    """A canonical table breaks its contract. Names table, column and, where there is one, the row."""

    def __init__(self, table: str, problem: str, *, column: str | None = None, row: object = None) -> None:
        self.table, self.column, self.row = table, column, row
        place = table if column is None else f"{table}.{column}"
        where = "" if row is None else f" (first at {row})"
        super().__init__(f"{place}: {problem}{where}")


class ValidationFailed(RecommenderError):
    """Critical expectations failed; the page and the failing rows are named in the message."""


class PeriodError(RecommenderError):
    """A period (training, gate, test) holds no pairs, or periods overlap or are out of order."""


class LabelError(RecommenderError):
    """A period's labels cannot train or judge a ranker: one class only, or none known."""


class CorruptFileError(RecommenderError):
    """A file does not have the SHA-256 that its manifest names, or is missing or truncated. Names the file."""


class BundleError(RecommenderError):
    """A bundle cannot be used here: unknown ranker, another feature schema, another vocabulary, a newer format."""


class DeviceError(RecommenderError):
    """A device was asked for that this machine does not have."""


class TrainingError(RecommenderError):
    """Training stopped: a loss or gradient that is not finite, or memory that does not suffice. Names step and batch."""


class PropensityError(RecommenderError):
    """A logged decision cannot be judged or learned from: its propensity is missing, zero, too small or above one. Names the row."""


class RegistryError(RecommenderError):
    """The registry lacks what was asked for, or an operation is not possible from its present state."""


class ServingError(RecommenderError):
    """An endpoint could not be started or stopped: a busy port, a missing Java, a model that did not become ready."""


class StepFailed(RecommenderError):
    """A step of a pipeline failed; holds the step's own message and names its log."""


class FeatureStoreError(RecommenderError):
    """The feature store is away, late, or holds what this version cannot read. Says which store and what to do."""


class EndpointError(RecommenderError):
    """A pipeline endpoint cannot be reached or refuses what was asked of it."""
