"""Sentences about one shopper from the table of facts, for people who do not read numbers all day."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from recommender.datasets.time_units import DAY_S
from recommender.features.facts import FACTS
from recommender.features.facts.table import CHURN_DAYS, VALUE_DAYS

_FACTS = {fact.name: fact for fact in FACTS}
RISKS = ((0.15, "low"), (0.5, "noticeable"), (1.01, "high"))
"""Upper ends of what the probability of staying away is called. Chosen by hand."""
SAME = 0.03
"""Less than so much above or below others counts as the same. Chosen by hand."""


def money(amount: float, currency: str) -> str:
    """Write an amount with the shop's currency, where the source states one."""
    written = f"{amount:,.2f}" if abs(amount) < 100 else f"{amount:,.0f}"
    return f"{written} {currency}".rstrip()


def days(number: float) -> str:
    """Write a number of days."""
    if number < 0.5:
        return "less than a day"
    whole = round(number) if number >= 10 else round(number, 1)
    return f"{whole:g} day{'' if whole == 1 else 's'}"


def sentences(
    row: Mapping[str, Any], *, as_of: datetime, currency: str, num_campaigns: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Say every known fact of one row of the table of facts. The keys are those of `portrait_card.Statement`."""
    ages = {
        "behaviour": row.get("rhythm__recency_days"),
        "consumption": row.get("rhythm__recency_days"),
        "interest": row.get("looks__recency_days"),
        "social": row.get("community__recency_days"),
    }

    def say(kind: str, fact: str, words: str) -> dict[str, Any]:
        of = _FACTS[fact]
        return {
            "kind": kind,
            "words": words,
            "fact": fact,
            "value": _known(row, fact),
            "unit": of.unit,
            "source": of.source,
            "age_days": _finite(ages.get(kind)),
        }

    if row.get("joined_at") is not None:
        age = (as_of - row["joined_at"]).total_seconds() / DAY_S
        yield {
            **{"kind": "base", "fact": "joined_at", "value": age, "unit": "days", "source": "users", "age_days": None},
            "words": f"Member for {days(max(age, 0))}, since {row['joined_at']:%Y-%m-%d}.",
        }
    if _known(row, "rhythm__visits") is None:
        yield {
            **{"kind": "behaviour", "fact": "rhythm__visits", "value": 0.0, "unit": "days", "source": "purchases"},
            "age_days": None,
            "words": "Has not bought anything yet.",
        }
    else:
        yield from _rhythm(row, say)
    yield _campaigns(num_campaigns, _age_of_campaigns(row, as_of))
    yield from _looks(row, say)
    yield from _social(row, say)
    yield from _consumption(row, say, currency)


def _rhythm(row: Mapping[str, Any], say: Any) -> Iterator[dict[str, Any]]:
    visits, gap = row["rhythm__visits"], row["rhythm__usual_gap_days"]
    yield say(
        "behaviour",
        "rhythm__visits",
        f"Bought on {visits:,.0f} day{'' if visits == 1 else 's'}, first {days(row['rhythm__known_days'])} ago.",
    )
    few = ", by what is usual here, as there are few visits so far" if visits <= 3 else ""
    yield say("behaviour", "rhythm__usual_gap_days", f"Usually comes every {days(gap)}{few}.")
    overdue = row["rhythm__overdue"]
    late = f", {overdue:.1f} times the usual gap" if overdue >= 1.5 else ""
    yield say(
        "behaviour", "rhythm__recency_days", f"The last purchase was {days(row['rhythm__recency_days'])} ago{late}."
    )
    expected = _known(row, "rhythm__next_days")
    low, high = _known(row, "rhythm__next_low_days"), _known(row, "rhythm__next_high_days")
    if expected is None:
        yield say("behaviour", "rhythm__next_days", "No visit is expected within a year.")
    else:
        until = f"{days(high)}" if high is not None else "more than a year"
        yield say(
            "behaviour",
            "rhythm__next_days",
            f"The next visit is expected within {days(expected)} (most likely between {low or 1:.0f} day"
            f"{'' if (low or 1) == 1 else 's'} and {until}).",
        )
    churn = f"churn__none_{CHURN_DAYS}d"
    risk = next(word for edge, word in RISKS if row[churn] < edge)
    yield say(
        "behaviour",
        churn,
        f"The risk that no purchase follows within {CHURN_DAYS // 7} weeks is {risk}: {_percent(row[churn])}.",
    )


def _age_of_campaigns(row: Mapping[str, Any], as_of: datetime) -> float | None:
    """Days since a campaign was last sent to the shopper or taken up."""
    moments = [
        one[name] for one in row["campaigns"] for name in ("targeted_at", "taken_up_at") if one[name] is not None
    ]
    return (as_of - max(moments)).total_seconds() / DAY_S if moments else None


def _campaigns(num: tuple[int, int], age_days: float | None) -> dict[str, Any]:
    sent, taken = num
    words = (
        f"Took up {taken} of {sent} campaign{'' if sent == 1 else 's'}."
        if sent
        else "Has not been sent a campaign yet."
    )
    numbers = {"fact": "campaigns", "value": float(taken), "unit": "campaigns", "source": "targets, participations"}
    return {"kind": "behaviour", "words": words, **numbers, "age_days": age_days}


def _looks(row: Mapping[str, Any], say: Any) -> Iterator[dict[str, Any]]:
    events = _known(row, "looks__events_90d")
    if events is not None:
        last = _known(row, "looks__recency_days")
        when = f"; the last time was {days(last)} ago" if last is not None else ""
        yield say("interest", "looks__events_90d", f"Looked around {events:,.0f} times in the last 90 days{when}.")


def _social(row: Mapping[str, Any], say: Any) -> Iterator[dict[str, Any]]:
    events = _known(row, "community__events")
    if events is None:
        return
    if not events:
        yield say("social", "community__events", "Has not reviewed, liked, commented or shared anything.")
        return
    told = [
        _counted(row[name], name.removeprefix("community__"))
        for name in (
            "community__reviews",
            "community__likes",
            "community__comments",
            "community__shares",
            "community__follows",
        )
        if _known(row, name)
    ]
    more = (
        f": more than {_percent(row['community__percentile'])} of shoppers" if row["community__percentile"] > 0 else ""
    )
    yield say("social", "community__events", f"Made {', '.join(told)}{more}.")
    yield say("social", "community__events_90d", f"{row['community__events_90d']:,.0f} of these in the last 90 days.")
    if _known(row, "community__mean_rating") is not None:
        yield say("social", "community__mean_rating", f"Rates with {row['community__mean_rating']:.1f} on average.")


def _counted(number: float, plural: str) -> str:
    return f"{number:,.0f} {plural if number != 1 else plural[:-1]}"


def _consumption(row: Mapping[str, Any], say: Any, currency: str) -> Iterator[dict[str, Any]]:
    a_visit, spend = _known(row, "value__a_visit"), f"value__spend_{VALUE_DAYS}d"
    if a_visit is None:
        return
    yield say("consumption", "value__a_visit", f"Spends about {money(a_visit, currency)} a visit.")
    if _known(row, spend) is not None:
        low, high = money(row[f"{spend}_low"], currency), money(row[f"{spend}_high"], currency)
        yield say(
            "consumption",
            spend,
            f"Is expected to spend {money(row[spend], currency)} in the next {VALUE_DAYS} days (most likely between "
            f"{low} and {high}), more than {_percent(row['value__percentile'])} of shoppers.",
        )
    level = _known(row, "prices__level")
    if level is not None:
        yield say(
            "consumption",
            "prices__level",
            _compared(level, "Chooses products", "cheaper", "dearer", "usual for their kind"),
        )
    index = _known(row, "prices__discount_index")
    if index is not None:
        share = _percent(row["prices__discounted_share"])
        words = _compared(index, "Buys on offer", "more rarely", "more often", "others do with the same products")
        yield say("consumption", "prices__discount_index", f"{words[:-1]}: {share} of the purchase lines.")
    coupons = _known(row, "prices__coupon_share")
    if coupons is not None:
        yield say(
            "consumption", "prices__coupon_share", f"Uses a coupon for {_percent(coupons)} of the purchase lines."
        )
    steep = _known(row, "prices__elasticity")
    if steep is not None:
        effect = (0.9**steep - 1) * 100
        words = (
            f"takes about {effect:.0f} % more of it at a time" if effect >= 1 else "takes hardly more of it at a time"
        )
        yield say("consumption", "prices__elasticity", f"When a product is 10 % cheaper, {words}.")


def _compared(ratio: float, start: str, below: str, above: str, than: str) -> str:
    if abs(ratio - 1) < SAME:
        return f"{start} about as {than}.".replace("as others do", "as often as others do").replace(
            "about as usual", "about as dear as usual"
        )
    return f"{start} {abs(ratio - 1):.0%} {below if ratio < 1 else above} than {than}.".replace("%", " %")


def _percent(share: float) -> str:
    if 0 < share < 0.01:
        return "under 1 %"
    return f"{share:.0%}".replace("%", " %")


def _known(row: Mapping[str, Any], name: str) -> float | None:
    return _finite(row.get(name))


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
