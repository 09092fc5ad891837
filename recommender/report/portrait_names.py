"""Plain names of facts, and their values for people who do not know the table of facts."""

from recommender.features.facts.table import CHURN_DAYS, VALUE_DAYS
from recommender.report.axes import percent
from recommender.report.portrait_words import days, money

PLAIN_NAMES = {
    "joined_at": "Time as a member",
    "rhythm__visits": "Days with a purchase",
    "rhythm__usual_gap_days": "Usual time between visits",
    "rhythm__recency_days": "Time since the last purchase",
    "rhythm__next_days": "Expected time until the next visit",
    f"churn__none_{CHURN_DAYS}d": f"Risk of no purchase within {CHURN_DAYS // 7} weeks",
    "campaigns": "Campaigns taken up",
    "looks__events_90d": "Views, clicks, carts, searches, favourites and likes in 90 days",
    "community__events": "Reviews, likes, comments, shares and follows",
    "community__events_90d": "Reviews, likes, comments, shares and follows in 90 days",
    "community__mean_rating": "Average rating given",
    "value__a_visit": "Expected spend a visit",
    f"value__spend_{VALUE_DAYS}d": f"Expected spend in {VALUE_DAYS} days",
    "prices__level": "Prices paid, against the usual ones of the product types",
    "prices__discount_index": "Purchases on offer, against other shoppers' of the same products",
    "prices__coupon_share": "Purchase lines with a coupon",
    "prices__elasticity": "Change of quantity with the price (elasticity)",
}
"""Name in the table of facts -> what a marketer calls it. Those of which `portrait_words.sentences` speaks."""
UNITLESS = ("ratio", "slope", "rating")
"""Units that say nothing to a reader of the value."""


def measured(value: float | None, unit: str, currency: str) -> str:
    """Write a value with its unit: an amount in the shop's currency, a share in per cent, a count with its noun."""
    if value is None:
        return "–"
    if unit == "money":
        return money(value, currency)
    if unit in ("share", "probability"):
        return percent(value)
    if unit == "days":
        return days(value)
    return f"{value:,.2f}" if unit in UNITLESS else f"{value:,.0f} {unit}"


def sentence_case(name: str) -> str:
    """A name of a column or kind as a heading: `household_size` is "Household size"."""
    words = name.replace("num_", "number_of_").replace("_", " ")
    return words[:1].upper() + words[1:]
