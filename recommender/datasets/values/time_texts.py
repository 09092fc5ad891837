"""Reads times that are texts: ISO 8601, and dates in any order, whose formats the whole column decides."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from recommender.datasets.values.column import Column, ask
from recommender.datasets.values.days import day_sql, local_sql
from recommender.datasets.values.readings import literal
from recommender.datasets.values.time_formats import DMY, MDY, YMD, TimeFormat, formats_of

SAMPLE_ROWS = 10_000
"""First rows that are looked at for formats. Formats that only later rows have are found in a second look."""
LOOKS = 3
"""How often the rows that are still unread are looked at for more formats. Chosen by hand."""
ISO_PATTERN = r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}"
ZONE_PATTERN = r"\d\d:\d\d.*([A-Za-z]|[+-]\d\d(:?\d\d)?)$"
"""A time of day followed by Z, an offset such as +02:00, +0200 or +02, or the name of a zone."""

Formats = tuple[TimeFormat, ...]


@dataclass(frozen=True)
class TimeTexts:
    """A column's texts, as times between `earliest` and `latest` (see `Time`)."""

    column: Column
    zone: str
    earliest: date
    latest: date

    @cached_property
    def sampled(self) -> Formats:
        """The formats that the first rows may have."""
        column = self.column
        first = f"SELECT {column.text} FROM {column.relation} LIMIT {SAMPLE_ROWS}"
        rows = column.connection.execute(
            f"SELECT {column.text} FROM ({first}) WHERE {self._iso_any} IS NULL"
        ).fetchall()
        return _formats(text for (text,) in rows)

    def count_simple(self) -> str:
        """SQL of how many texts are plausible ISO 8601 times with a time of day and without a zone.

        These are the commonest by far, and to recognise them needs no pattern.
        """
        text = self.column.text
        # A zone ends with a letter, all of which sort after a colon, or has a sign behind the date.
        ends = f"{text}[-1] < ':' AND NOT contains({text}, '+') AND NOT contains({text}[11:], '-')"
        starts = f"length({text}) > 10 AND {text}[5] IN ('-', '/')"
        # A cast reads a year of four digits only before a mark in the fifth place; a sign makes it implausible.
        return f"count(*) FILTER ({starts} AND {ends} AND {self.plausible(f'TRY_CAST({text} AS TIMESTAMP)')})"

    def answers_if_simple(self, filled: int) -> dict[str, int]:
        """The answers to `questions` where `count_simple` counts every filled cell."""
        return {"iso": filled, "iso_plausible": filled, "iso_days": 0, "iso_zoned": 0, "unread": 0}

    def questions(self, formats: Formats) -> dict[str, str]:
        """How many texts are ISO 8601, how many each order of day, month and year reads, and how many nothing reads."""
        text, iso = self.column.text, self._iso_any
        by_order = {order: self.parsed(_of_order(formats, order)) for order in (YMD, DMY, MDY)}
        unread = "".join(f" AND {sql} IS NULL" for sql in by_order.values() if sql)
        asked = {
            "iso": f"count({iso})",
            "iso_plausible": f"count(*) FILTER ({self.plausible(iso)})",
            "iso_days": f"count(*) FILTER ({self._is_iso} AND length({text}) <= 10)",
            "iso_zoned": f"count(*) FILTER ({self._is_iso} AND regexp_matches({text}, '{ZONE_PATTERN}'))",
            "unread": f"count(*) FILTER ({text} IS NOT NULL AND {iso} IS NULL{unread})",
        }
        asked |= {order: f"count(*) FILTER ({self.plausible(sql)})" for order, sql in by_order.items() if sql}
        if by_order[DMY]:
            day_first, month_first = (f"coalesce({self.plausible(by_order[order])}, false)" for order in (DMY, MDY))
            asked["only_dmy"] = f"count(*) FILTER ({day_first} AND NOT {month_first})"
            asked["only_mdy"] = f"count(*) FILTER ({month_first} AND NOT {day_first})"
            if any(one.short_year for one in formats):
                asked["years_in_front"] = f"count(DISTINCT regexp_extract({text}, '^\\d+'))"
                asked["years_behind"] = f"count(DISTINCT regexp_extract({text}, '^\\d+\\D+\\d+\\D+(\\d+)', 1))"
        return asked

    def chosen(self, facts: dict[str, Any]) -> tuple[str, Formats, int]:
        """SQL of the times (TIMESTAMPTZ), the formats that they use beside ISO 8601, and how many are plausible.

        Raises:
            ContractError: No row, or contradicting rows, say whether day or month comes first.
        """
        formats = self.sampled
        for _ in range(LOOKS):
            if not facts["unread"]:
                break
            more = tuple(sorted({*formats, *self._of_unread(formats)}))
            if more == formats:
                break
            formats, asked = more, self.questions(more)
            facts = {**facts, **dict(zip(asked, ask(self.column, list(asked.values())), strict=True))}
        order = self._order(formats, facts)
        chosen = tuple(one for one in formats if one.order == order or (one.order == YMD and not one.is_numeric_short))
        parts = [self._iso(facts)] if facts["iso"] else []
        parts += [self._in_formats(group) for group in _grouped(chosen)]
        value = f"coalesce({', '.join(parts)})" if len(parts) > 1 else parts[0] if parts else "NULL::TIMESTAMPTZ"
        return value, chosen, facts["iso_plausible"] + sum(facts.get(one, 0) for one in (YMD, DMY, MDY))

    def _order(self, formats: Formats, facts: dict[str, Any]) -> str | None:
        """Which of day, month and year comes first where all are numbers."""
        if not facts.get(DMY) and not facts.get(MDY):
            return YMD if facts.get(YMD) else None
        if facts["only_dmy"] and facts["only_mdy"]:
            raise self._contradicting(formats, facts)
        year_first = facts.get(YMD, 0) >= max(facts[DMY], facts[MDY])
        if "years_in_front" in facts and year_first and facts["years_in_front"] < facts["years_behind"]:
            # 24-03-05: days change from row to row, years hardly do, so the year seems to be in front.
            raise self._doubtful(formats, (YMD, DMY, MDY))
        if not facts["only_dmy"] and not facts["only_mdy"]:
            raise self._doubtful(formats, (DMY, MDY))
        return DMY if facts["only_dmy"] else MDY

    def _contradicting(self, formats: Formats, facts: dict[str, Any]) -> Exception:
        day, month = (self.parsed(_of_order(formats, order)) for order in (DMY, MDY))
        only_day, only_month = f"{day} IS NOT NULL AND {month} IS NULL", f"{month} IS NOT NULL AND {day} IS NULL"
        rows = [self.column.first(condition) for condition in (only_day, only_month)]
        one, other = (f"{row[1]} in {row[0]}" for row in rows if row is not None)
        return self.column.refuse(
            f"the day comes first in {facts['only_dmy']:,} rows ({one}) and the month in {facts['only_mdy']:,} "
            f"({other}); write all in one way, or set `formats`: the others are set aside",
            only_month if facts["only_dmy"] > facts["only_mdy"] else only_day,
        )

    def _doubtful(self, formats: Formats, orders: Iterable[str]) -> Exception:
        examples = [one.text for order in orders for one in _of_order(formats, order)[:1]]
        choices = " or ".join(f'formats = {{ {self.column.canonical} = "{one}" }}' for one in examples)
        return self.column.refuse(
            f"does the day, the month or the year come first? No row decides; write {choices} in the mapping",
            f"{self.column.text} IS NOT NULL",
        )

    def _of_unread(self, formats: Formats) -> Formats:
        unread = [f"{self.column.text} IS NOT NULL", f"{self._iso_any} IS NULL"]
        unread += [f"{self.parsed([one])} IS NULL" for one in formats]
        rows = self.column.connection.execute(
            f"SELECT {self.column.text} FROM {self.column.relation} WHERE {' AND '.join(unread)} LIMIT {SAMPLE_ROWS}"
        ).fetchall()
        return _formats(text for (text,) in rows)

    def parsed(self, formats: Iterable[TimeFormat]) -> str:
        """SQL of the first time that one of the formats reads, as TIMESTAMP. An empty text without formats."""
        listed = list(formats)
        parts = [
            self._strptime([one for one in listed if (one.zone == "offset") is zoned]) + "::TIMESTAMP"
            for zoned in (False, True)
            if any((one.zone == "offset") is zoned for one in listed)
        ]
        return f"coalesce({', '.join(parts)})" if len(parts) > 1 else parts[0] if parts else ""

    def _strptime(self, formats: Iterable[TimeFormat]) -> str:
        return f"try_strptime({self.column.text}, [{', '.join(literal(one.text) for one in formats)}])"

    def _in_formats(self, formats: list[TimeFormat]) -> str:
        """SQL of the time in formats that have hours and zone alike, as TIMESTAMPTZ."""
        parsed, kind = self._strptime(formats), formats[0]
        if kind.zone == "offset":
            return parsed
        if kind.zone == "utc":
            return local_sql(parsed, "UTC")
        if kind.has_hours:
            return local_sql(parsed, self.zone)
        return day_sql(self.column.canonical, parsed, self.zone)

    @property
    def _is_iso(self) -> str:
        return f"regexp_matches({self.column.text}, '{ISO_PATTERN}')"

    @property
    def _iso_any(self) -> str:
        """SQL that is NULL where a text is no ISO 8601 time."""
        text = self.column.text
        zoned = f"regexp_matches({text}, '{ZONE_PATTERN}')"
        return (
            f"CASE WHEN {self._is_iso} THEN CASE WHEN {zoned} THEN TRY_CAST({text} AS TIMESTAMPTZ)::TIMESTAMP "
            f"ELSE TRY_CAST({text} AS TIMESTAMP) END END"
        )

    def _iso(self, facts: dict[str, Any]) -> str:
        """SQL of ISO 8601 texts as TIMESTAMPTZ, with the branches that the column needs."""
        text = self.column.text
        local = f"TRY_CAST({text} AS TIMESTAMP)"
        branches = []
        if facts["iso"] < facts["filled"]:
            branches.append(f"WHEN NOT {self._is_iso} THEN NULL")
        if facts["iso_zoned"]:
            branches.append(f"WHEN regexp_matches({text}, '{ZONE_PATTERN}') THEN TRY_CAST({text} AS TIMESTAMPTZ)")
        if facts["iso_days"]:
            branches.append(f"WHEN length({text}) <= 10 THEN {day_sql(self.column.canonical, local, self.zone)}")
        rest = local_sql(local, self.zone)
        return f"CASE {' '.join(branches)} ELSE {rest} END" if branches else rest

    def plausible(self, parsed: str) -> str:
        """SQL of whether a TIMESTAMP is plausible. It is not yet in its zone: a day more is allowed on both sides."""
        first, last = f"TIMESTAMP '{self.earliest}' - INTERVAL 1 DAY", f"TIMESTAMP '{self.latest}' + INTERVAL 1 DAY"
        return f"{parsed} BETWEEN {first} AND {last}"


def _of_order(formats: Formats, order: str) -> list[TimeFormat]:
    return [one for one in formats if one.order == order]


def _formats(texts: Iterable[str | None]) -> Formats:
    """All formats that texts may have, in a fixed order."""
    return tuple(sorted({one for text in set(texts) if text is not None for one in formats_of(text)}))


def _grouped(formats: Iterable[TimeFormat]) -> list[list[TimeFormat]]:
    """Formats that have hours and zone alike, together."""
    groups: dict[tuple[bool, str], list[TimeFormat]] = {}
    for one in formats:
        groups.setdefault((one.has_hours, one.zone), []).append(one)
    return list(groups.values())
