"""Errors of opening a file that a draft of a mapping can answer by itself."""

from collections.abc import Sequence

from recommender.errors import SourceError


class NotUtf8Error(SourceError):
    """A text file is not UTF-8. `probable` is the encoding that it probably has, None where that is unclear."""

    def __init__(self, message: str, probable: str | None) -> None:
        self.probable = probable
        super().__init__(message)


class NoHeaderError(SourceError):
    """A file's first row holds values. `first` is that row."""

    def __init__(self, message: str, first: Sequence[str]) -> None:
        self.first = tuple(first)
        super().__init__(message)
