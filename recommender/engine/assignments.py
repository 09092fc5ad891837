"""Hyperparameters as words of a command line: `--set width=128 --set dropout=0.3`."""

import json
from collections.abc import Iterable
from typing import Any

from recommender.errors import SettingsError


def parse_assignments(words: Iterable[str], *, option: str = "--set") -> dict[str, Any]:
    """Each `name=value` as a name and a value, which is read as JSON where it is JSON and is text otherwise.

    Args:
        words: Such as "width=128" or 'teacher={"members": 1}'. Of one name given twice the last value counts.
        option: The command's option, for the error message.

    Raises:
        SettingsError: A word has no "=".
    """
    return dict(_parse(word, option) for word in words)


def _parse(word: str, option: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals:
        raise SettingsError(f"{option} {word}: expected name=value, such as width=128")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
