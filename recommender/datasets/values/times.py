"""Reads times: ISO 8601 with or without seconds, zone and blanks, dates in any order, numbers since 1970.

The whole column decides how it is read. Of 03/04/2024 the day comes first if another row has a number over 12 in front,
and the month if one has it behind. A column in which no row decides is refused with a question, unless `formats`
answers it. Numbers are read in the unit in which they are plausible times. A column in two units is refused.

A time outside the plausible range (`times` in [source]) cannot be read. Where that holds for a whole column, the error
names the unit or format that would fit.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

from recommender.datasets.mapping import EARLIEST, LATEST
from recommender.datasets.values.column import Column, Facts, ask
from recommender.datasets.values.days import day_sql, local_sql
from recommender.datasets.values.epochs import EXCEL, UNITS, Numbers
from recommender.datasets.values.readings import Reading, literal
from recommender.datasets.values.time_formats import YMD
from recommender.datasets.values.time_texts import TimeTexts

DAY = "day"
HOUR_CODES = "HIcfsTX"
"""Letters of strptime codes that hold a time of day. A format without them is a day."""
YEAR_CODES = "YycGDx"
WIDEST = (date(1678, 1, 1), date(2261, 12, 31))
"""Times that 64 bits of nanoseconds can hold."""
HOURS_OF_DIGITS = "%Y%m%d%H"


@dataclass(frozen=True)
class Time:
    """The rule for a column of times.

    Attributes:
        column: The column.
        zone: IANA zone of times without one.
        format: The mapping's format: for `strptime`, or unix_s, unix_ms, unix_us, unix_ns, excel, day. None: found.
        first_day: The date of day 1, and the first date of times without a year.
        earliest, latest: The plausible range, both days included.
        only_orders: Whether the times only order events. Then one outside the plausible range is read all the same,
            and numbers of which none is plausible are taken for counters.
    """

    column: Column
    zone: str
    format: str | None = None
    first_day: date | None = None
    earliest: date = EARLIEST
    latest: date = LATEST
    only_orders: bool = False

    def questions(self) -> dict[str, str]:
        """How many cells there are, and how many each way of writing reads as a plausible time."""
        asked = {"null_words": self.column.null_words(), "filled": f"count({self._cell})"}
        if self.format is not None:
            return {**asked, "read": f"count({self._explicit})", "plausible": self._count_kept(self._explicit)}
        if self._is_native:
            return {**asked, "read": f"count({self._native})", "plausible": self._count_kept(self._native)}
        if not self.column.is_text and not self.column.is_number:
            raise self.column.refuse(f"holds {self.column.type}, where a time is wanted; name another column")
        if self.column.is_text and not self._texts.sampled:
            # The commonest export: the first rows need no other format. If all rows are so, nothing else is asked.
            return {**asked, "simple": self._texts.count_simple()}
        return {**asked, **self._all_questions()}

    def reading(self, facts: Facts) -> Reading:
        """TIMESTAMPTZ, NULL where the cell is empty.

        Raises:
            ContractError: The whole column lies outside the plausible range or is no time; or it is written in two
                ways; or no row says whether day or month comes first.
        """
        if self.format is not None:
            return self._result(self._explicit, facts, facts["plausible"], {"format": self.format})
        if self._is_native:
            return self._result(self._native, facts, facts["plausible"], {})
        if "simple" in facts:
            facts = self._completed(facts)
        if facts["numbers"]:
            if facts.get("unread", facts["filled"]) < facts["filled"]:
                raise self._mixed_with_texts(facts)
            return self._of_numbers(facts)
        if not self.column.is_text:
            return self._result("NULL::TIMESTAMPTZ", facts, 0, {})
        value, formats, plausible = self._texts.chosen(dict(facts))
        return self._result(
            value, facts, plausible, {"format": " | ".join(one.text for one in formats)} if formats else {}
        )

    def _all_questions(self) -> dict[str, str]:
        """How each unit of a number and each way of writing a text reads the column."""
        numbers = self._numbers.questions()
        return {**numbers, **self._texts.questions(self._texts.sampled)} if self.column.is_text else numbers

    def _completed(self, facts: Facts) -> Facts:
        """The answers to all questions, which are known where every cell is a simple time."""
        if facts["simple"] == facts["filled"]:
            return {**facts, "numbers": 0, **self._texts.answers_if_simple(facts["simple"])}
        asked = self._all_questions()
        return {**facts, **dict(zip(asked, ask(self.column, list(asked.values())), strict=True))}

    @property
    def _cell(self) -> str:
        return self.column.text if self.column.is_text else self.column.raw

    @cached_property
    def _numbers(self) -> Numbers:
        return Numbers(self.column, self.earliest, self.latest, self.zone)

    @cached_property
    def _texts(self) -> TimeTexts:
        return TimeTexts(self.column, self.zone, self.earliest, self.latest)

    def _of_numbers(self, facts: Facts) -> Reading:
        numbers, fitting = self._numbers, self._numbers.fitting(facts)
        if facts["infinite"]:
            raise self.column.refuse("is not finite; write the event's time", f"NOT isfinite({numbers.number})")
        if facts[HOURS_OF_DIGITS] == facts["numbers"] and self._all_parsed(HOURS_OF_DIGITS, facts):
            fitting = [HOURS_OF_DIGITS]
        if len(fitting) > 1:
            rows = [self.column.first(f"{numbers.value(name)} IS NOT NULL") for name in fitting[:2]]
            one, other = (f"{row[1]} in {row[0]} is {name}" for row, name in zip(rows, fitting, strict=False) if row)
            raise self.column.refuse(
                f"times in two units: {one}, {other}; write all in one",
                f"{numbers.value(fitting[1])} IS NOT NULL",
            )
        is_counter = not fitting or (fitting[0].startswith("%") and not self._all_parsed(fitting[0], facts))
        if is_counter and self.only_orders:
            return self._of_counters(facts)
        if not fitting:
            raise self.column.refuse(self._no_unit(facts), f"{numbers.number} IS NOT NULL")
        found = {"format": fitting[0]}
        if self.only_orders and fitting[0] in UNITS:
            outside = facts["numbers"] - facts[fitting[0]]
            value = f"make_timestamptz({numbers.in_64_bits(fitting[0])})"
            return Reading(value, found={**found, "outside": str(outside)} if outside else found)
        return self._result(numbers.value(fitting[0]), facts, facts[fitting[0]], found)

    def _of_counters(self, facts: Facts) -> Reading:
        """Numbers that no clock wrote: they order events as they are."""
        largest, too_large = self._numbers.counter(facts["largest"])
        if too_large is not None:
            raise self.column.refuse("is no time: in microseconds it needs more than 64 bits", too_large)
        return Reading(f"make_timestamptz({largest})", null_words=facts["null_words"], found={"format": "counter"})

    def _all_parsed(self, name: str, facts: Facts) -> bool:
        return bool(ask(self.column, [f"count({self._numbers.parsed(name)})"])[0] == facts["numbers"])

    def _no_unit(self, facts: Facts) -> str:
        says = f"no number is a time between {self.earliest} and {self.latest} in any unit"
        if facts[EXCEL]:
            return f'{says}; formats = {{ {self.column.canonical} = "{EXCEL}" }} fits, if these are days of Excel'
        return (
            f'{says}. If it counts days, write formats = {{ {self.column.canonical} = "{DAY}" }} and first_day; if it '
            "is a true time, widen `times` in [source]"
        )

    def _mixed_with_texts(self, facts: Facts) -> Exception:
        number = f"{self._numbers.number} IS NOT NULL"
        other = f"{self.column.text} IS NOT NULL AND NOT {number}"
        number_row, text_row = self.column.first(number), self.column.first(other)
        assert number_row is not None
        assert text_row is not None
        few_numbers = facts["numbers"] * 2 <= facts["filled"]
        return self.column.refuse(
            f"a number among times that are texts: {number_row[1]} in {number_row[0]}, {text_row[1]} in "
            f"{text_row[0]}; write all in one way",
            number if few_numbers else other,
        )

    @property
    def _is_native(self) -> bool:
        return not self.column.words and self.column.type.startswith(("TIMESTAMP", "DATE"))

    @property
    def _native(self) -> str:
        raw = self.column.raw
        if self.column.type == "TIMESTAMP WITH TIME ZONE":
            return raw
        if self.column.type == "DATE":
            return day_sql(self.column.canonical, f"{raw}::TIMESTAMP", self.zone)
        return local_sql(f"{raw}::TIMESTAMP", self.zone)

    @cached_property
    def _explicit(self) -> str:
        """SQL of the time in the mapping's format."""
        assert self.format is not None
        if self.format in UNITS or self.format == EXCEL:
            return self._numbers.value(self.format)
        if self.format == DAY:
            number = self._numbers.number
            day = f"TIMESTAMP '{self.first_day}' + to_days((TRY_CAST({number} AS INTEGER) - 1))"
            return f"CASE WHEN {number} = trunc({number}) THEN {day_sql(self.column.canonical, day, self.zone)} END"
        text = self.column.text if self.column.is_text else f"{self.column.raw}::VARCHAR"
        codes = {self.format[place + 1] for place, sign in enumerate(self.format[:-1]) if sign == "%"}
        parsed = f"try_strptime({text}, {literal(self.format)})"
        if codes.isdisjoint(YEAR_CODES):
            parsed = self._without_year(text)
        if codes & {"z", "Z"}:
            return f"TRY_CAST({parsed} AS TIMESTAMPTZ)"
        if codes.isdisjoint(HOUR_CODES):
            return day_sql(self.column.canonical, f"({parsed})::TIMESTAMP", self.zone)
        return local_sql(f"({parsed})::TIMESTAMP", self.zone)

    def _without_year(self, text: str) -> str:
        """SQL of a month and day: the first such date from `first_day` on."""
        assert self.format is not None
        if self.first_day is None:
            raise self.column.refuse(
                f"the format {self.format!r} has no year; write first_day = 2024-01-01, the first day of the file, in "
                "the mapping"
            )
        if self.format == "%m%d":
            text = f"lpad({text}, 4, '0')"  # numbers lose the zero in front: 829 is the 29th of August
        years = [
            f"try_strptime({literal(f'{self.first_day.year + later}-')} || {text}, {literal(f'%Y-{self.format}')})"
            for later in (0, 1)
        ]
        return f"CASE WHEN {years[0]} >= TIMESTAMP '{self.first_day}' THEN {years[0]} ELSE {years[1]} END"

    @property
    def _range(self) -> str:
        """SQL of whether {} is plausible. The first and the last day count as a whole in every zone."""
        earliest, latest = WIDEST if self.only_orders else (self.earliest, self.latest)
        return f"{{}} BETWEEN TIMESTAMPTZ '{earliest} 00:00:00+14' AND TIMESTAMPTZ '{latest} 23:59:59.999999-12'"

    def _count_kept(self, value: str) -> str:
        return f"count(*) FILTER ({self._range.format(f'({value})')})"

    def _result(self, value: str, facts: Facts, plausible: int, found: dict[str, str]) -> Reading:
        if facts["filled"] and not plausible and not self.only_orders:
            raise self._nothing_fits(value)
        advice = (
            f"; a time between {self.earliest} and {self.latest} is needed; see `formats` and `times` in the mapping"
        )
        return Reading(
            value,
            self._range,
            self.column.text if self.column.is_text else f"{self.column.raw}::VARCHAR",
            (f"{self.column.canonical}: cannot read ", advice),
            ignored=self.column.ignored,
            null_words=facts["null_words"],
            found=found,
        )

    def _nothing_fits(self, value: str) -> Exception:
        """The error about a column without any plausible time, with the unit or format that would fit."""
        fits = self._what_fits()
        remedy = f"; {fits} fits" if fits else "; see `formats` in the mapping"
        written = f" in the format {self.format!r}" if self.format is not None else ""
        (parsed,) = ask(self.column, [f"count({value})"])
        says = (
            f"lies outside {self.earliest} to {self.latest} (`times` in [source])"
            if parsed or self.format in UNITS
            else "cannot be read"
        )
        return self.column.refuse(f"every time{written} {says}{remedy}", f"{self._cell} IS NOT NULL")

    def _what_fits(self) -> str:
        """The unit or format in which the column is plausible, as the mapping writes it. Empty if there is none."""
        if self._is_native:
            return ""
        asked = self._numbers.questions()
        facts = dict(zip(asked, ask(self.column, list(asked.values())), strict=True))
        names = self._numbers.fitting(facts) if facts["numbers"] else []
        if not names and self.column.is_text:
            texts = self._texts
            formats = [one for one in texts.sampled if one.order != YMD or not one.is_numeric_short]
            read = ask(self.column, [f"count(*) FILTER ({texts.plausible(texts.parsed([one]))})" for one in formats])
            names = [one.text for one, count in zip(formats, read, strict=True) if count and count == max(read)]
        return " or ".join(f'formats = {{ {self.column.canonical} = "{name}" }}' for name in names)
