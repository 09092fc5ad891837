"""Matches the words of a search with items and values of the taxonomy by the words that their names have.

A word is a run of letters and digits, without regard to case or a plural's s. Scripts that are written without blanks,
such as Chinese, are compared by pairs of characters. On each axis the values that hold the most words of the search
match, and of these the ones with the shortest names. They share the search evenly. More than `MOST_TIED` say nothing.

The rule needs no model. So a gateway applies it to a search that just came, and a build of the features does the same.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.matching.look_rules import STRENGTH_UNIT

MOST_TIED = 10
"""Values that share one search at most. By hand."""
MOST_ITEMS = 20_000
"""With more items a search is matched with the values of the other axes only. By hand: their names would fill a
gateway's memory, and few searches mean one item of so many."""
_WORD = re.compile(r"[^\W_]+")
_WITHOUT_BLANKS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Thai and Lao, kana, Han, Hangul."""


class Part(NamedTuple):
    """The share of a search that falls to a value of an axis."""

    axis: int
    value: int
    strength: int
    """In `STRENGTH_UNIT`."""


class Matched(NamedTuple):
    """What a search means."""

    parts: tuple[Part, ...]
    is_whole: bool
    """Whether each of its words is in the name of a value that it matches."""


def words_of(text: str) -> tuple[str, ...]:
    """The distinct words of a text, in their order."""
    found: dict[str, None] = {}
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _WITHOUT_BLANKS.search(word):
            pairs = [word[place : place + 2] for place in range(max(len(word) - 1, 1))]
            found |= dict.fromkeys(pairs)
        else:
            plural = len(word) > 3 and word.endswith("s") and not word.endswith("ss")
            found[word[:-1] if plural else word] = None
    return tuple(found)


class WordIndex:
    """The words of all names, to look searches up."""

    def __init__(self, item_names: Sequence[str], axis_values: Sequence[Sequence[str]]) -> None:
        """Take names by row: of items, and on each axis after the first of its values. Row 0 is none."""
        self._rows: list[dict[str, NDArray[np.int32]]] = []
        self._lengths: list[NDArray[np.int32]] = []
        for axis, values in enumerate(axis_values):
            names = item_names if axis == 0 else values
            of_word: dict[str, list[int]] = defaultdict(list)
            lengths = np.zeros(len(names), dtype=np.int32)
            if axis or len(names) <= MOST_ITEMS + 1:
                for row in range(1, len(names)):
                    own = words_of(names[row])
                    lengths[row] = len(own)
                    for word in own:
                        of_word[word].append(row)
            self._rows.append({word: np.array(rows, dtype=np.int32) for word, rows in of_word.items()})
            self._lengths.append(lengths)

    def match(self, query: str) -> Matched:
        """The values that a search means."""
        words = words_of(query)
        parts: list[Part] = []
        covered = set[str]()
        for axis, of_word in enumerate(self._rows):
            found = {word: of_word[word] for word in words if word in of_word}
            if not found:
                continue
            counts = np.bincount(np.concatenate(list(found.values())))
            rows = np.flatnonzero(counts == counts.max())
            lengths = self._lengths[axis][rows]
            rows = rows[lengths == lengths.min()]
            if len(rows) <= MOST_TIED:
                parts += [Part(axis, row, round(STRENGTH_UNIT / len(rows))) for row in rows.tolist()]
                covered |= {word for word, own in found.items() if np.isin(rows, own).any()}
        return Matched(tuple(parts), bool(words) and covered.issuperset(words))
