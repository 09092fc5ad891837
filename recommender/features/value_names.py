"""Names of features that stand for values of the data: a department, a campaign type, an age group.

A value may be any text, in any script, of any length, with any punctuation. A name adds only ASCII letters, digits and
single underscores to its form, so that it is valid for every engine and store that sees it. The value itself stands
beside the name in the feature set's schema.

    department__{}: GROCERY -> department__grocery      DRUG GM -> department__drug_gm      家电 -> department__7997d86f
                    Food and food -> department__food_e4eb1806 and department__food_c1f02658

In a home the names are kept, as ids are (`recommender.storage.names`): what was named once keeps its feature, also when
other values are commoner now or when it no longer occurs. So the columns stay as they are from run to run.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from recommender.storage.names import Named, NamesFile

HASH_DIGITS = 8
"""Hex digits of a value's hash in a name: 32 bits tell a dozen apart. Where they do not: all digits."""
LONGEST_PART = 48
"""Characters of a value in a name. Longer ones are cut and get the hash. Chosen by hand: a name fits a table's cell."""
MOST = 24
"""Values of one column with a feature, all runs together: the 12 commonest of this one, and as many that were common
once. Chosen by hand."""
_LIKE_A_HASH = re.compile(rf"(?:^|_)[0-9a-f]{{{HASH_DIGITS},}}$")


@dataclass(frozen=True)
class ValueNames:
    """Names the features of one feature set that stand for values, and remembers which value each stands for."""

    features: dict[str, dict[str, str]] = field(default_factory=dict)
    """Feature -> `column` and `value`, in the order in which they were named."""
    kept: NamesFile | None = None
    """Where the home keeps names. None: they begin with these values."""

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
            Value -> its names, one for each form: those that were named in earlier runs, then the others of `values`,
            in their order. Once there are `MOST`, no other is named.

        Raises:
            ValueError: a form was given for another column before, so that two values could share a name.
        """
        given = list(dict.fromkeys(values))

        def add(before: Named) -> Named:
            known = before.values
            # A home that begins names what the caller chose.
            new = [value for value in given if value not in known][: MOST - len(known) if known else None]
            others = [form.replace("{}", part) for form in forms for part in before.parts]
            return Named({**known, **parts(new, forms, taken=[*taken, *others])}, before.missing)

        named = {}
        for value, part in self._kept(forms[0], add).values.items():
            named[value] = tuple(form.replace("{}", part) for form in forms)
            for feature in named[value]:
                if feature in self.features:
                    raise ValueError(f"{feature}: stands for {self.features[feature]} already, not for {value!r} too")
                self.features[feature] = {"column": column, "value": value}
        return named

    def of_missing(self, form: str, *, occurs: bool) -> str | None:
        """Name the feature that stands for a missing value, None where there is none and never was.

        Args:
            form: of the features of the column's values.
            occurs: whether a value is missing.
        """

        def add(before: Named) -> Named:
            if before.missing or not occurs:
                return before
            free = (word for word in ("unknown", "missing", "no_value") if word not in before.parts)
            return Named(before.values, next(free))

        missing = self._kept(form, add).missing
        return form.replace("{}", missing) if missing else None

    def also(self, form: str, values: Sequence[str]) -> list[str]:
        """The values that name features by themselves, after those that earlier runs had."""

        def add(before: Named) -> Named:
            return Named({**before.values, **{value: value for value in values if value not in before.values}})

        return list(self._kept(form, add).values)

    def has(self, form: str) -> bool:
        """Whether values were named with this form in an earlier run."""
        return self.kept is not None and form in self.kept.read()

    def _kept(self, form: str, add: Callable[[Named], Named]) -> Named:
        return add(Named()) if self.kept is None else self.kept.add(form, add)


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
