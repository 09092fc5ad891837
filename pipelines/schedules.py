"""Cron expressions: five fields as people write them, six as KFP reads them."""

import re

from recommender.errors import SettingsError

FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day of week", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)
"""Name, least and greatest value, and names of values, of each field. KFP's cron knows no 7 for Sunday."""
PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?\Z")
"""One part of a field: `*`, `5`, `MON-FRI`, `*/15`, `8-18/2`."""


def with_seconds(cron: str) -> str:
    """KFP's six fields for a cron expression of five: the seconds, 0, come first.

    Raises:
        SettingsError: the expression does not have five fields, or one is impossible. Names the field and its bounds.
    """
    fields = cron.split()
    if len(fields) != len(FIELDS):
        raise SettingsError(
            f"--cron '{cron}' has {len(fields)} fields: write five (minute, hour, day of month, month, day of week), "
            "such as '0 3 * * MON' for every Monday at 3:00"
        )
    for text, (name, least, greatest, names) in zip(fields, FIELDS, strict=True):
        for part in text.split(","):
            _check(part, cron, name, least, greatest, names)
    return " ".join(("0", *fields))


def without_seconds(cron: str) -> str:
    """A cron expression of KFP as people write it: without the seconds where they are 0."""
    fields = cron.split()
    return " ".join(fields[1:]) if len(fields) == len(FIELDS) + 1 and fields[0] == "0" else cron


def _check(part: str, cron: str, name: str, least: int, greatest: int, names: tuple[str, ...]) -> None:
    found = PART.match(part)
    if found is None:
        raise SettingsError(f"--cron '{cron}': {name} {part!r} is no value, range or step (5, 1-5, */15)")
    ends = [_value(text, least, names) for text in (found["first"], found["last"]) if text not in (None, "*")]
    for value in ends:
        if value is None or not least <= value <= greatest:
            raise SettingsError(f"--cron '{cron}': {name} {part!r} is not within {least} and {greatest}")
    numbers = [value for value in ends if value is not None]
    if numbers != sorted(numbers):
        raise SettingsError(f"--cron '{cron}': {name} {part!r} ends before it begins")
    if found["step"] is not None and int(found["step"]) == 0:
        raise SettingsError(f"--cron '{cron}': {name} {part!r} has a step of 0; it must be at least 1")


def _value(text: str, least: int, names: tuple[str, ...]) -> int | None:
    if text.isdigit():
        return int(text)
    return names.index(text.upper()) + least if text.upper() in names else None
