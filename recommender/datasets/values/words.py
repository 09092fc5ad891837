"""Reads texts, and words of a closed list such as kinds of events, whose words a mapping translates or ignores."""

from collections.abc import Sequence
from dataclasses import dataclass

from recommender.datasets.mapping import IGNORE
from recommender.datasets.values.column import Column, Facts
from recommender.datasets.values.readings import Reading, literal


@dataclass(frozen=True)
class Text:
    """The rule for free text: without the blanks around it, NULL for a word that stands for a missing value."""

    column: Column

    def questions(self) -> dict[str, str]:
        """How many cells hold a word for a missing value."""
        return {"null_words": self.column.null_words()}

    def reading(self, facts: Facts) -> Reading:
        """Text, NULL where the cell is empty."""
        return Reading(self.column.text, ignored=self.column.ignored, null_words=facts["null_words"])


@dataclass(frozen=True)
class Kind:
    """The rule for words of a closed list. Letter case counts neither for the list's words nor for the mapping's.

    A word that the mapping ignores leaves its row out. A word that is neither in the list nor in the mapping is a
    problem of its row, and `found` names such words: no kind of event vanishes because a mapping forgot it.
    """

    column: Column
    allowed: Sequence[str]

    def questions(self) -> dict[str, str]:
        """How many cells hold a word for a missing value, and the words that nobody knows."""
        unknown = f"{self._value} IS NULL AND {self._text} IS NOT NULL AND NOT {self._ignored}"
        return {
            "null_words": self.column.null_words(),
            # A histogram of one closed column: a shop has tens of kinds, not millions.
            "unknown": f"approx_top_k({self._text}, 20) FILTER ({unknown})",
        }

    def reading(self, facts: Facts) -> Reading:
        """A word of the list, NULL where the cell is empty, ignored or unknown."""
        unknown = ", ".join(facts["unknown"] or ())
        column = f"values = {{ {self.column.canonical} = {{ … }} }}"
        advice = f"map it to one of {', '.join(self.allowed)} in {column}, or to {IGNORE!r} to leave such rows out"
        return Reading(
            self._value,
            None,
            self._text,
            (f"{self.column.canonical}: unknown word ", f"; {advice}"),
            ignored=self._ignored,
            null_words=facts["null_words"],
            found={"unknown": unknown} if unknown else {},
        )

    @property
    def _text(self) -> str:
        cleaned = self.column.cleaned
        known = ", ".join(literal(word.lower()) for word in self.column.words)
        empty = self.column.is_null_word(cleaned)
        if known:
            empty = f"({empty} AND lower({cleaned}) NOT IN ({known}))"
        return f"CASE WHEN {empty} THEN NULL ELSE {cleaned} END"

    @property
    def _value(self) -> str:
        words = {word.lower(): word for word in self.allowed}
        words |= {theirs.lower(): ours for theirs, ours in self.column.words.items()}
        cases = " ".join(
            f"WHEN {literal(theirs)} THEN {literal(ours)}" for theirs, ours in words.items() if ours != IGNORE
        )
        return f"CASE lower({self.column.cleaned}) {cases} END"

    @property
    def _ignored(self) -> str:
        left_out = [theirs.lower() for theirs, ours in self.column.words.items() if ours == IGNORE]
        if not left_out:
            return "false"
        return f"coalesce(lower({self.column.cleaned}) IN ({', '.join(map(literal, left_out))}), false)"
