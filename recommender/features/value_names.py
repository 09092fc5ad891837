"""Names of features that stand for values of the data: a department, a campaign type, an age group.

A value may be any text, in any script, of any length, with any punctuation. A name adds only ASCII letters, digits and
single underscores to its form, so that it is valid for every engine and store that sees it. The value itself stands
beside the name in the feature set's schema.

    department__{}: GROCERY -> department__grocery      DRUG GM -> department__drug_gm      家电 -> department__7997d86f
                    Food and food -> department__food_e4eb1806 and department__food_c1f02658
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

HASH_DIGITS = 8
"""Hex digits of a value's hash in a name: 32 bits tell a dozen apart. Where they do not: all digits."""
LONGEST_PART = 48
"""Characters of a value in a name. Longer ones are cut and get the hash. Chosen by hand: a name fits a table's cell."""
_LIKE_A_HASH = re.compile(rf"(?:^|_)[0-9a-f]{{{HASH_DIGITS},}}$")


@dataclass(frozen=True)
class ValueNames:
    """Names the features of one feature set that stand for values, and remembers which value each stands for."""

    features: dict[str, dict[str, str]] = field(default_factory=dict)
    """Feature -> `column` and `value`, in the order in which they were named."""

    def name(
        self, column: str, values: Iterable[str], forms: Sequence[str], *, taken: Collection[str] = ()
    ) -> dict[str, tuple[str, ...]]:
        """Name the features of each value of a column.

        Args:
            column: the column that holds the values.
            values: texts, each named once.
            forms: a feature's name each, with `{}` for the part that names the value.
            taken: names of other features, which none of these gets.

        Returns:
            Value -> its names, one for each form, in the order of `values`.

        Raises:
            ValueError: a form was given for another column before, so that two values could share a name.
        """
        named = {}
        for value, part in parts(values, forms, taken=taken).items():
            named[value] = tuple(form.replace("{}", part) for form in forms)
            for feature in named[value]:
                if feature in self.features:
                    raise ValueError(f"{feature}: stands for {self.features[feature]} already, not for {value!r} too")
                self.features[feature] = {"column": column, "value": value}
        return named


def parts(values: Iterable[str], forms: Sequence[str], *, taken: Collection[str] = ()) -> dict[str, str]:
    """Give each value a part of a name that no other value of `values` has.

    The part is the value in lower case with underscores, if that is ASCII, short, and no other value's. Else a hash of
    the value ends it. So a part depends on the set of values and never on their order.
    """
    distinct = list(dict.fromkeys(values))
    words = {value: re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_") for value in distinct}
    shared = Counter(words.values())
    plain = {
        value
        for value, word in words.items()
        # Lower case alone is no proof of ASCII: that of the Kelvin sign is the letter k.
        if value.isascii()
        and shared[word] == 1
        and 0 < len(word) <= LONGEST_PART
        and not _LIKE_A_HASH.search(word)
        and not any(form.replace("{}", word) in taken for form in forms)
    }

    def with_hashes(digits: int) -> dict[str, str]:
        return {value: words[value] if value in plain else _hashed(value, words[value], digits) for value in distinct}

    short = with_hashes(HASH_DIGITS)
    return short if len(set(short.values())) == len(short) else with_hashes(hashlib.sha256().digest_size * 2)


def _hashed(value: str, word: str, digits: int) -> str:
    # A text from JSON may hold half of a surrogate pair, which strict UTF-8 refuses.
    hashed = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    return f"{word[:LONGEST_PART].rstrip('_')}_{hashed}" if word else hashed
