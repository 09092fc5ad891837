"""Finds the strptime formats in which a text may be a time, apart from ISO 8601, which needs no format."""

import re
from dataclasses import dataclass

YMD, DMY, MDY = "ymd", "dmy", "mdy"
"""Orders of year, month and day. A name of a month, and a year of four digits in front, leave no doubt."""
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september", "october"),
    *("november", "december"),
)
WEEKDAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)([a-z]*day)?(,?) +", re.IGNORECASE)
YEAR_FIRST = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}(?!\d)")
CHINESE = re.compile(r"\d{4}年\d{1,2}月\d{1,2}(日|号)?")
NUMBERS = re.compile(r"\d{1,2}([-/. ]|\. )\d{1,2}\1(\d{4}|\d{2})(?!\d)")
DAY_NAME = re.compile(r"\d{1,2}([-/. ]|\. )([A-Za-z]{3,9})([-/. ]|, )(\d{4}|\d{2})(?!\d)")
NAME_DAY = re.compile(r"([A-Za-z]{3,9})([-/. ])\d{1,2}(,? )(\d{4})(?!\d)")
COMPACT = re.compile(r"\d{8}(?=[T ]\d)")
CTIME = re.compile(r"([A-Za-z]{3}) +\d{1,2} \d{1,2}:\d\d:\d\d (\d{4})")
HOURS = re.compile(
    r"(T|, ?| +)\d{1,2}(?:(:)\d{2}(:\d{2}(\.\d{1,6})?)?|([时時])(\d{1,2}分(\d{1,2}秒)?)?)?( ?[AaPp][Mm])?(?![\d:])"
)
COMPACT_HOURS = re.compile(r"(T| )(\d{6}|\d{4})(?!\d)")
ZONE = re.compile(r"( *)(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?|[A-Z][A-Za-z_]+/[A-Za-z_/]+|[A-Z]{3,5})")


@dataclass(frozen=True, order=True)
class TimeFormat:
    """A format for `strptime`.

    Attributes:
        text: The format.
        order: Order of year, month and day.
        has_hours: Whether it has a time of day.
        zone: "" for local times, "utc" for a mark such as Z, "offset" for %z and %Z.
        short_year: Whether the year has two digits.
    """

    text: str
    order: str
    has_hours: bool = False
    zone: str = ""
    short_year: bool = False

    @property
    def is_numeric_short(self) -> bool:
        """Whether it has a year of two digits among numbers alone, so that its order must be proven."""
        return self.short_year and "%b" not in self.text and "%B" not in self.text


def formats_of(text: str) -> list[TimeFormat]:
    """The formats that may read `text`. Empty where it looks like no time, or like a number alone."""
    weekday = WEEKDAY.match(text)
    prefix = ""
    if weekday is not None:
        prefix = ("%A" if weekday[2] else "%a") + weekday[3] + " "
        text = text[weekday.end() :]
    found = []
    for date, order, end, short in _dates(text):
        rest = _rest(text[end:], compact=date == "%Y%m%d")
        if rest is not None:
            written, has_hours, zone = rest
            found.append(TimeFormat(prefix + date + written, order, has_hours or "%H" in date, zone, short))
    return found


def _dates(text: str) -> list[tuple[str, str, int, bool]]:
    """Formats of the date in front, their order, where it ends, and whether the year has two digits."""
    if match := YEAR_FIRST.match(text):
        return [(f"%Y{match[1]}%m{match[1]}%d", YMD, match.end(), False)]
    if match := CHINESE.match(text):
        return [(f"%Y年%m月%d{match[1] or ''}", YMD, match.end(), False)]
    if match := COMPACT.match(text):
        return [("%Y%m%d", YMD, match.end(), False)]
    if match := NUMBERS.match(text):
        mark, short = match[1], len(match[2]) == 2
        year = "%y" if short else "%Y"
        orders = [(DMY, ("%d", "%m", year)), (MDY, ("%m", "%d", year)), *([(YMD, (year, "%m", "%d"))] if short else [])]
        return [(mark.join(parts), order, match.end(), short) for order, parts in orders]
    if (match := DAY_NAME.match(text)) and (month := _month(match[2])):
        short = len(match[4]) == 2
        return [(f"%d{match[1]}{month}{match[3]}{'%y' if short else '%Y'}", YMD, match.end(), short)]
    if (match := CTIME.match(text)) and (month := _month(match[1])):
        return [(f"{month} %d %H:%M:%S %Y", YMD, match.end(), False)]
    if (match := NAME_DAY.match(text)) and (month := _month(match[1])):
        return [(f"{month}{match[2]}%d{match[3]}%Y", YMD, match.end(), False)]
    return []


def _month(name: str) -> str | None:
    if name.lower() in MONTHS and name.lower() != "may":
        return "%B"
    return "%b" if any(name.lower() == month[:3] for month in MONTHS) else None


def _rest(text: str, *, compact: bool) -> tuple[str, bool, str] | None:
    """Format of what follows a date, whether it has hours, and its zone. None if it is no time of day."""
    written, has_hours = "", False
    if compact and (match := COMPACT_HOURS.match(text)):
        written, has_hours = match[1] + ("%H%M%S" if len(match[2]) == 6 else "%H%M"), True
        text = text[match.end() :]
    elif match := HOURS.match(text):
        gap, colon, seconds, fraction, chinese, minutes, chinese_seconds, half = match.groups()
        written = gap + ("%I" if half else "%H")
        if colon:
            written += ":%M" + (":%S" if seconds else "") + (".%f" if fraction else "")
        elif chinese:
            written += chinese + ("%M分" if minutes else "") + ("%S秒" if chinese_seconds else "")
        written += (" %p" if half.startswith(" ") else "%p") if half else ""
        has_hours, text = True, text[match.end() :]
    if not text:
        return written, has_hours, ""
    match = ZONE.fullmatch(text)
    if match is None or not has_hours:
        return None
    if match[2] in ("Z", "UTC", "GMT"):
        return written + match[1] + match[2], has_hours, "utc"
    return written + match[1] + ("%z" if match[2][0] in "+-" else "%Z"), has_hours, "offset"
