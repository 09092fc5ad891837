"""Says what a column may mean by its name alone, in six languages."""

import re
import unicodedata
from functools import cache

from recommender.datasets.draft.vocabulary import (
    CENTS,
    COLUMNS,
    CURRENCIES,
    EMAILS,
    ENTITIES,
    KEYS,
    MOMENTS,
    TABLE_WORDS,
    TIME_ENDS,
)

WITHOUT_KEY = 20
"""Rank of an entity's word alone (`customer`): after every name with a key (`customer_no`). Chosen by hand."""
AFTER_PREFIX = 50
"""Rank added where a word before it says whose it is (`order_status`), because the whole name is not known."""
FILLERS = ("of", "de", "du", "des", "da", "do", "del", "der", "the", "la", "le", "in")
"""Words inside names that mean nothing: date of order."""
SHORTEST_PLURAL = 3
"""Letters above which an s at the end may be a plural: `products`."""
PREFIXES = (
    *(
        "event",
        "events",
        "data",
        "lineitem",
        "review",
        "billing",
        "base",
        "source",
        "original",
        "fk",
        "col",
        "external",
    ),
    *(
        "internal",
        "crm",
        "web",
        "online",
        "primary",
        "main",
        "total",
        "actual",
        "domain",
    ),
    *("value", "properties", "attributes", "payload", "ecommerce", "record", "fields"),
)
"""Words before a name that say nothing about it, besides those of entities."""


@cache
def squashed(name: str) -> str:
    """A name without case, accents, blanks and separators: `Customer ID`, `customerId` and `CUSTOMER_ID` are one."""
    plain = unicodedata.normalize("NFKD", name.casefold().replace("ß", "ss"))
    return "".join(char for char in plain if char.isalnum() or char == "#")


@cache
def tokens(name: str) -> tuple[str, ...]:
    """The words of a name: `OrderDate`, `order date` and `ORDER-DATE` all give order, date."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(part for part in (squashed(one) for one in re.split(r"[\W_]+|(?<=#)|(?=#)", spaced)) if part)


@cache
def _words(text: str) -> dict[str, int]:
    """Word -> its place in a list."""
    places: dict[str, int] = {}
    for place, word in enumerate(text.split()):
        places.setdefault(squashed(word), place)
    return places


@cache
def _names_of(entity: str) -> dict[str, int]:
    """All names of an entity's key, with their ranks."""
    ranks: dict[str, int] = {}
    for noun in _words(ENTITIES[entity]):
        for key in _words(KEYS):
            ranks.setdefault(noun + key, 0)
            ranks.setdefault(key + noun, 1)
        # `event` alone is what happened, not the number of an event.
        if entity not in ("event", "line"):
            ranks.setdefault(noun, WITHOUT_KEY)
    return ranks


def entity_of(name: str) -> str | None:
    """The entity of a word such as `customers` or `sales_orders`, which may be a file's name."""
    for word in (squashed(name), *reversed(tokens(name))):
        for entity in ENTITIES:
            nouns = _words(ENTITIES[entity])
            if word in nouns or word.removesuffix("s") in nouns or word.removesuffix("es") in nouns:
                return entity
    return None


def is_bare_key(name: str) -> bool:
    """Whether a name says that it is a key, but not of what: `id`, `entity_id`, `no`."""
    return squashed(name) in {*_words(KEYS), "entityid", "objectid", "pk", "idx"}


@cache
def meanings(name: str) -> dict[str, int]:
    """What a column's name may mean -> its rank, where 0 is the likeliest.

    The meanings are the columns of the contract, the keys of ENTITIES and of COLUMNS, and `email`.
    """
    found = _exact(squashed(name))
    words = tokens(name)
    if not found and is_cents(name):
        found = meanings("_".join(word for word in words[:-1] if word != "in"))
    if not found:
        found = _moments(words)
    if not found:
        found = _money(words)
    if found:
        return found
    for rest in _shortened(words):
        found = {meaning: rank + AFTER_PREFIX for meaning, rank in _exact("".join(rest)).items()}
        if found:
            return found
    return {}


def _money(words: tuple[str, ...]) -> dict[str, int]:
    """Meanings of a name that says a currency: Preis CHF. A coupon in money is what it took off."""
    rest = tuple(word for word in words if word not in _words(CURRENCIES))
    found = meanings("_".join(rest)) if rest and len(rest) < len(words) else {}
    return {"coupon_discount": AFTER_PREFIX} if found and set(found) <= {"coupon"} else found


def is_cents(name: str) -> bool:
    """Whether a name says that its amounts are in hundredths: amount_cents."""
    words = tokens(name)
    return len(words) > 1 and words[-1] in CENTS


def _moments(words: tuple[str, ...]) -> dict[str, int]:
    """Times by what happened at them: sold_on, viewed_at, date_created_gmt."""
    stem = "".join(word for word in words if word not in TIME_ENDS and word not in FILLERS)
    if not stem or len(words) < 2 or stem == "".join(words):
        return {}
    return {meaning: AFTER_PREFIX + _words(stems)[stem] for meaning, stems in MOMENTS.items() if stem in _words(stems)}


def _exact(word: str) -> dict[str, int]:
    found = {concept: words[word] for concept, text in COLUMNS.items() if word in (words := _words(text))}
    if word in _words(EMAILS):
        found["email"] = _words(EMAILS)[word]
    entities = {entity: ranks[word] for entity in ENTITIES if word in (ranks := _names_of(entity))}
    if not found and not entities and len(word) > SHORTEST_PLURAL and word.endswith("s"):
        return {meaning: rank for meaning, rank in _exact(word[:-1]).items() if meaning == "item"}
    # A line's number is a better guess than an order's or an item's: order_item_id.
    if "line" in entities and squashed(word) not in _words(ENTITIES["item"]):
        entities = {"line": entities["line"]}
    return found | entities


def _shortened(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A name's words without the one in front, or behind, that only says whose it is."""
    fronts = {*PREFIXES, *(noun for nouns in ENTITIES.values() for noun in _words(nouns))}
    shorter = []
    if len(words) > 1 and (words[0] in fronts or words[0].removesuffix("s") in fronts):
        shorter.append(words[1:])
    if len(words) > 1 and words[-1] in ("billing", "utc", "local", "ms", "us", "s"):
        shorter.append(words[:-1])
    if len(words) > 2 and words[0] in fronts and words[1] in fronts:
        shorter.append(words[2:])
    return shorter


def table_words(stem: str, table: str) -> int:
    """Length of the longest word of a table that occurs in a file's name. 0: none does."""
    word = squashed(stem)
    return max((len(one) for one in _words(TABLE_WORDS[table]) if one in word), default=0)
