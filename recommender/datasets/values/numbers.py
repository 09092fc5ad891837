"""Reads numbers: decimal and thousands marks, signs, currencies, percent, full-width digits.

The whole column decides which mark is the decimal mark. `9.5` proves a point, `9,5` and `1.234.567` prove a comma.
`1.234` proves nothing: it is 1234 where another value proves a comma, and 1.234 where one proves a point. A column in
which no value decides is refused with a question, and so is a column with proofs of both.

Also read: `1 234,50`, `1'234.50`, `+5`, `5-`, `(5)` and `−5` (minus five), `9,50 €`, `USD 9.50`, `12 %` (0.12), `１２`.
Infinity is no number. NaN of a program is a missing value.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recommender.datasets.values.collisions import ASCII, FULL_WIDTH
from recommender.datasets.values.column import Column, Facts, ask
from recommender.datasets.values.readings import Reading, literal

CURRENCY = r"(\p{Sc}|[A-Z]{3}|[A-Z]{1,2}\$|元|円|圆|人民币|kr\.?|zł|Kč|Ft|lei|Fr\.|Rs\.?|Rp\.?|р\.|руб\.?)"
"""A currency's mark or code, before or after an amount."""
MEANT = {
    "€": {"EUR"},
    "£": {"GBP"},
    "$": {"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "ARS", "CLP", "COP", "BRL"},
    "US$": {"USD"},
    "R$": {"BRL"},
    "¥": {"CNY", "RMB", "JPY"},
    "元": {"CNY", "RMB"},
    "人民币": {"CNY", "RMB"},
    "RMB": {"CNY", "RMB"},
    "円": {"JPY"},
    "kr": {"SEK", "NOK", "DKK", "ISK"},
    "kr.": {"SEK", "NOK", "DKK", "ISK"},
    "₫": {"VND"},
    "Rp": {"IDR"},
    "Rp.": {"IDR"},
    "zł": {"PLN"},
    "Kč": {"CZK"},
    "₹": {"INR"},
}
"""Mark -> codes of the currencies that it may mean. A mark that is not here means itself."""
POINT_FOR_CERTAIN = (
    r"(\d*\.(\d{1,2}|\d{4,})|0\d*\.\d{3}|\d{4,}\.\d{3}|\d+\.|\.\d+|\d+(\.\d+)?[eE][+-]?\d+"
    r"|\d{1,3}(,\d{2,3})*,\d{3}\.\d*|\d{1,3}(,\d{3}){2,}|\d{1,2}(,\d{2})+,\d{3})"
)
"""Values that can only be read with a point as the decimal mark, commas between thousands (or lakhs)."""
COMMA_FOR_CERTAIN = (
    r"(\d*,(\d{1,2}|\d{4,})|0\d*,\d{3}|\d{4,},\d{3}|\d+,|,\d+|\d{1,3}(\.\d{3})+,\d*|\d{1,3}(\.\d{3}){2,})"
)
"""Values that can only be read with a comma as the decimal mark, points between thousands."""
EITHER = r"[1-9]\d{0,2}[.,]\d{3}"
"""Values that both readings allow."""
GROUPED = {
    ".": r"(\d{1,3}(,\d{2,3})*,\d{3}|\d*)(\.\d*)?([eE][+-]?\d+)?",
    ",": r"(\d{1,3}(\.\d{3})+|\d*)(,\d*)?([eE][+-]?\d+)?",
}
"""Decimal mark -> numbers that it allows, marks between thousands included."""
BLANK_BETWEEN = "(\\d)[\\s\u00a0\u2009\u202f'’](\\d{3})"
"""A blank or an apostrophe between thousands: three digits follow it."""
AROUND = "^[\\s\u00a0]*[(+-]?[\\s\u00a0]*[+-]?|[\\s\u00a0%)-]+$"
"""What may stand around the digits of a number: signs, parentheses, per cent."""
NEGATIVE = "^[\\s\u00a0]*-|-[\\s\u00a0%]*$|^[\\s\u00a0]*\\(.*\\)[\\s\u00a0]*$"
"""A minus in front or behind, or parentheses around, as bookkeepers write."""
QUESTION = (
    'write decimal = "." in the mapping if it is the mark before decimals, or thousands = "." if it stands between '
    "thousands"
)


@dataclass(frozen=True)
class Number:
    """The rule for a column of numbers.

    Attributes:
        column: The column.
        decimal: The mapping's decimal mark. None: found in the column.
        thousands: The mapping's mark between thousands. None: found in the column.
    """

    column: Column
    decimal: str | None = None
    thousands: str | None = None

    def questions(self) -> dict[str, str]:
        """How many cells a plain cast reads, and whether one of them proves that a point is the decimal mark."""
        column = self.column
        if not column.is_text:
            if not column.is_number and column.type != "BOOLEAN":
                raise column.refuse(f"holds {column.type}, where a number is wanted; name another column")
            return {}
        text = column.text
        shape = f"regexp_full_match({text}, '[+-]?{EITHER}')"
        return {
            "null_words": column.null_words(),
            "filled": f"count({text})",
            "plain": f"count(*) FILTER (isfinite(TRY_CAST({text} AS DOUBLE)))",
            "pointed": f"count(*) FILTER (contains({text}, '.') AND TRY_CAST({text} AS DOUBLE) IS NOT NULL)",
            "either": f"count(*) FILTER (CASE WHEN contains({text}, '.') THEN {shape} ELSE false END)",
        }

    def reading(self, facts: Facts) -> Reading:
        """DOUBLE, NULL where the cell is empty.

        Raises:
            ContractError: No value, or contradicting values, say which mark is the decimal mark; or there are amounts
                in several currencies, or numbers with and without percent.
        """
        column = self.column
        if not column.is_text:
            native = f"{column.raw}::DOUBLE"
            present = f"CASE WHEN isnan({native}) THEN NULL ELSE {column.raw}::VARCHAR END"
            return Reading(native, "isfinite({})", present, (f"{column.canonical}: cannot read ", "; it is not finite"))
        plain = facts["plain"] == facts["filled"]
        proven = facts["either"] == 0 or facts["pointed"] > facts["either"]
        # The commonest export needs no pattern at all: a cast reads all of it, in one way only.
        if plain and (self.decimal == "." or (self.decimal is None and self.thousands is None and proven)):
            return self._result(f"TRY_CAST({column.text} AS DOUBLE)", facts, {})
        return self._marked(facts)

    def _marked(self, facts: Facts) -> Reading:
        """Read a column with marks, currencies or signs."""
        seen = self._survey()
        currency = self._currency(seen["currencies"])
        if 0 < seen["percents"] < facts["filled"]:
            raise self.column.refuse(
                f"{seen['percents']:,} of {facts['filled']:,} numbers are written with %; write all in one way",
                f"contains({self._narrow}, '%')",
            )
        decimal = self._decimal(seen)
        body = self._body
        bare = f"replace({body}, {literal(',' if decimal == '.' else '.')}, '')"
        if self.thousands == "":
            bare = body
        bare = bare if decimal == "." else f"replace({bare}, ',', '.')"
        number = f"CASE WHEN regexp_full_match({body}, {literal(GROUPED[decimal])}) THEN TRY_CAST({bare} AS DOUBLE) END"
        signed = f"({number}) * CASE WHEN {self._is_negative} THEN -1 ELSE 1 END"
        found = {"decimal": decimal}
        if seen["percents"]:
            signed = f"({signed}) / 100"
            found["percent"] = "%"
        if currency is not None:
            found["currency"] = currency
        if not seen["percents"]:
            # Most numbers have no marks, and a cast is many times as fast as the patterns. A point beside a decimal
            # comma is a mark between thousands, which a cast would take for the decimal mark.
            text = self.column.text
            pointed = text if decimal == "." else f"replace({text}, ',', '.')"
            cast = f"TRY_CAST({pointed} AS DOUBLE)"
            plain = f"{cast} IS NOT NULL" + ("" if decimal == "." else f" AND NOT contains({text}, '.')")
            signed = f"CASE WHEN {plain} THEN {cast} ELSE {signed} END"
        return self._result(signed, facts, found)

    def _currency(self, marks: list[str]) -> str | None:
        """The currency that all marks may mean: € and EUR are one, $ and EUR are two."""
        if not marks:
            return None
        common = set.intersection(*(MEANT.get(mark, {mark}) for mark in marks))
        if not common:
            raise self.column.refuse(
                f"amounts in several currencies ({', '.join(marks)}); write one currency, or give a column `currency` "
                "and `rates`",
                f"{self._mark} = {literal(marks[1])}",
            )
        return next((mark for mark in marks if mark in common), marks[0])

    def _decimal(self, seen: dict[str, Any]) -> str:
        """The decimal mark: the mapping's, or the one that the column proves."""
        if self.decimal is not None:
            return self.decimal
        if self.thousands in (".", ","):
            return "," if self.thousands == "." else "."
        if seen["points"] and seen["commas"]:
            rows = [self.column.first(self._is(pattern)) for pattern in (POINT_FOR_CERTAIN, COMMA_FOR_CERTAIN)]
            one, other = (f"{row[1]} in {row[0]}" for row in rows if row is not None)
            raise self.column.refuse(
                f"{seen['points']:,} numbers have a decimal point and {seen['commas']:,} a decimal comma: {one}, "
                f"{other}; "
                'write all in one way, or set decimal = "." or decimal = "," in the mapping: the others are set aside',
                self._is(POINT_FOR_CERTAIN if seen["points"] < seen["commas"] else COMMA_FOR_CERTAIN),
            )
        if seen["either"] and not seen["points"] and not seen["commas"]:
            mark = "," if seen["either_comma"] else "."
            raise self.column.refuse(
                f"is {mark!r} a decimal mark or a mark between thousands? No value decides; "
                + QUESTION.replace('"."', f'"{mark}"'),
                self._is(EITHER),
            )
        return "," if seen["commas"] else "."

    def _survey(self) -> dict[str, Any]:
        """What marks the column has. One more scan, for columns that a plain cast does not read."""
        aggregates = {
            "points": f"count(*) FILTER ({self._is(POINT_FOR_CERTAIN)})",
            "commas": f"count(*) FILTER ({self._is(COMMA_FOR_CERTAIN)})",
            "either": f"count(*) FILTER ({self._is(EITHER)})",
            "either_comma": f"count(*) FILTER ({self._is(EITHER)} AND contains({self._body}, ','))",
            "percents": f"count(*) FILTER (contains({self._narrow}, '%'))",
            "currencies": f"list(DISTINCT {self._mark}) FILTER ({self._mark} <> '' AND {self._is('.*[0-9].*')})",
        }
        answers = dict(zip(aggregates, ask(self.column, list(aggregates.values())), strict=True))
        answers["currencies"] = sorted(answers["currencies"] or ())
        return answers

    def _is(self, pattern: str) -> str:
        return f"regexp_full_match({self._body}, {literal(pattern)})"

    @cached_property
    def _narrow(self) -> str:
        """The text with ASCII digits and marks."""
        text = self.column.text
        # To translate so many characters takes microseconds, and ASCII (as many bytes as characters) needs none of it.
        wide = f"translate({text}, {literal(FULL_WIDTH + '−')}, {literal(ASCII + '-')})"
        return f"CASE WHEN strlen({text}) = length({text}) THEN {text} ELSE {wide} END"

    @cached_property
    def _mark(self) -> str:
        """The currency's mark or code, or an empty text. One yen sign is written in two ways."""
        found = f"regexp_extract({self._narrow}, {literal(CURRENCY)}, 1)"
        return f"translate({found}, '￥圆', '¥元')"

    @cached_property
    def _bare(self) -> str:
        """The text without its currency."""
        return f"regexp_replace({self._narrow}, {literal(CURRENCY)}, '')"

    @cached_property
    def _body(self) -> str:
        """Digits and marks alone: without sign, currency, percent, blanks and apostrophes."""
        bare = self._bare
        for _ in range(2):  # matches do not overlap, so the marks of 1 234 567 go in two steps
            bare = f"regexp_replace({bare}, {literal(BLANK_BETWEEN)}, '\\1\\2', 'g')"
        return f"regexp_replace({bare}, {literal(AROUND)}, '', 'g')"

    @cached_property
    def _is_negative(self) -> str:
        return f"regexp_matches({self._bare}, {literal(NEGATIVE)})"

    def _result(self, value: str, facts: Facts, found: dict[str, str]) -> Reading:
        advice = "; see `decimal`, `thousands` and `values` in the mapping"
        return Reading(
            value,
            "isfinite({})",
            self.column.text,
            (f"{self.column.canonical}: cannot read ", advice),
            ignored=self.column.ignored,
            null_words=facts["null_words"],
            found=found,
        )
