"""Every error that the platform raises on purpose.

    RecommenderError                 base: the command line prints its message and exits with 2, without a traceback
    ├── SettingsError                a setting, judgement rule, environment variable, secret or option is wrong
    ├── data
    │   ├── SourceError              a source file is missing, unreadable or incomplete
    │   │   └── SourceAway           its bucket or database does not answer now
    │   ├── ContractError            a table breaks its contract
    │   ├── ValidationFailed         critical expectations about the tables failed
    │   ├── PeriodError              a period holds no pairs, or periods are out of order
    │   ├── LabelError               a period's labels cannot train or judge a ranker
    │   └── PropensityError          a logged decision cannot be learned from
    ├── stored things
    │   ├── CorruptFileError         a file is not the one that its manifest names
    │   ├── BundleError              a bundle cannot be used here
    │   ├── RegistryError            the registry lacks a version, fit or state that is needed
    │   └── FeatureStoreError        the feature store is unavailable, late or unreadable
    │       └── StoreAway            it does not answer now
    └── running
        ├── DeviceError              this machine lacks the device in the settings
        ├── TrainingError            training stopped
        ├── StepFailed               a step of a pipeline failed
        ├── LimitBroken              monitoring found drift, age or calibration beyond a limit
        ├── EndpointError            a pipeline endpoint cannot be reached or refuses
        ├── HomeInUse                a pipeline or a training uses the home, so nothing may be removed
        └── ServingError             an endpoint could not be started or stopped

The classes without a parent here derive from `RecommenderError` directly; the groups only order this picture. What is
`AWAY` may be back in a moment, so a pipeline step tries again. A message says what was
wrong, where (file, column, row, key), the value, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_VALUE = 80
"""Characters of a refused value that an error message repeats: enough to find it in the input, and one line."""
LONGEST_ANSWER = 500
"""Characters of another process's answer that an error message repeats. Chosen by hand: a few lines of a terminal."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown `name`: the nearest known one, or all where none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


class RecommenderError(Exception):
    """Base of all errors raised on purpose."""


class SettingsError(RecommenderError):
    """A setting, judgement rule, secret or option is unknown, of a wrong type, or impossible beside the others."""


class SourceError(RecommenderError):
    """A source file is missing, unreadable, or lacks what is read from it. Names the file."""


class SourceAway(SourceError):
    """The bucket or the database of a source does not answer now. Names it."""


class ContractError(RecommenderError):
    """A table breaks its contract. Names table, column and, if there is one, the row."""

    def __init__(self, table: str, problem: str, *, column: str | None = None, row: object = None) -> None:
        self.table, self.column, self.row = table, column, row
        place = table if column is None else f"{table}.{column}"
        where = "" if row is None else f" (first at {row})"
        super().__init__(f"{place}: {problem}{where}")


class ValidationFailed(RecommenderError):
    """Critical expectations about the tables failed. Names the page, the expectations and their first failing rows."""

    def __init__(self, message: str, *, verdict: object = None) -> None:
        self.verdict = verdict
        super().__init__(message)


class PeriodError(RecommenderError):
    """A period (training, gate, final test) holds no pairs, or periods overlap or are out of order."""


class LabelError(RecommenderError):
    """The labels of a period cannot train or judge a ranker: they are of one class only, or none is known."""


class CorruptFileError(RecommenderError):
    """A file is missing or truncated, or does not have the SHA-256 that its manifest names. Names the file."""


class BundleError(RecommenderError):
    """A bundle cannot be used here: unknown ranker, another feature schema, another vocabulary, a newer format."""


class DeviceError(RecommenderError):
    """This machine does not have the device in the settings."""


class TrainingError(RecommenderError):
    """A loss or gradient was not finite, or memory did not suffice. Names step and batch."""


class PropensityError(RecommenderError):
    """The propensity of a logged decision is missing, zero, too small or above one. Names the row."""


class RegistryError(RecommenderError):
    """The registry lacks a version, fit or state that is needed, or does not allow the operation now."""


class ServingError(RecommenderError):
    """An endpoint could not be started or stopped: a busy port, a missing Java, a model that did not become ready."""


class StepFailed(RecommenderError):
    """A step of a pipeline failed. Holds the step's own message and names its log."""


class LimitBroken(RecommenderError):
    """Monitoring found that a limit of the settings is broken. Names each with its remedy."""


class FeatureStoreError(RecommenderError):
    """The feature store is unavailable or late, or this version cannot read it. Names the store and what to do."""


class StoreAway(FeatureStoreError):
    """The feature store does not answer now. Names the store and what to check."""


class HomeInUse(RecommenderError):
    """A pipeline, a training or a materialisation uses the home now. Names it and what to do."""


class EndpointError(RecommenderError):
    """A pipeline endpoint cannot be reached or refuses the request."""


AWAY = (SourceAway, StoreAway)
"""Errors of what may be back in a moment."""
