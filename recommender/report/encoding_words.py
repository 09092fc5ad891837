"""What a sequence encoder says of one shopper, in sentences."""

from collections.abc import Sequence

from recommender.allocation.encodings import Encoding, Next

AXIS_WORDS = {
    "product": "products",
    "product_type": "product types",
    "category": "categories",
    "department": "departments",
    "brand": "brands",
    "manufacturer": "manufacturers",
}


def encoding_words(encoding: Encoding) -> list[str]:
    """What comes next, who is most alike, and whose opinion that is."""
    told = []
    if encoding.likeliest:
        axis = AXIS_WORDS[encoding.axis]
        told.append(f"By the order of past purchases, the likeliest {axis} in the next basket: {_shares(encoding)}.")
    if encoding.unusual:
        told.append(f"Much likelier than for other shoppers: {_times(encoding.unusual)}.")
    if encoding.alike:
        ids = ", ".join(one.user_id for one in encoding.alike)
        told.append(f"The shoppers most alike in what they buy and when, of {encoding.compared_with:,}: {ids}.")
    serves = "is the champion" if encoding.serves else "does not serve"
    told.append(
        f"Said by {encoding.version}, which {serves} and has seen purchases until "
        f"{encoding.trained_until:%Y-%m-%d}{_age(encoding.age_days)}."
    )
    return told


def _shares(encoding: Encoding) -> str:
    return ", ".join(f"{one.value} ({100 * one.share:.1f} % of the lines)" for one in encoding.likeliest)


def _times(unusual: Sequence[Next]) -> str:
    return ", ".join(f"{one.value} ({one.times_usual:.1f} times)" for one in unusual)


def _age(days: float) -> str:
    return f", {days:.0f} days before this portrait" if days >= 0.5 else ""
