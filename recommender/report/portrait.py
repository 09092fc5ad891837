"""The page of one shopper: the five kinds of portrait in plain words, small charts, and where each fact comes from."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from recommender.features.facts.favourites import SEARCHES
from recommender.features.facts.table import CHURN_DAYS
from recommender.report.axes import Html, percent
from recommender.report.bars import bar_chart
from recommender.report.calendar import calendar
from recommender.report.encoding_words import AXIS_WORDS, encoding_words
from recommender.report.page import Banner, Section, badge, bullets, fold, page, paragraph, table
from recommender.report.portrait_card import Favourite, Flag, PortraitCard, group_axis
from recommender.report.portrait_names import PLAIN_NAMES, measured, sentence_case
from recommender.report.portrait_words import money

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
KIND_WORDS = {**AXIS_WORDS, SEARCHES: "searches"}
AT_RISK = 0.5
"""More likely than not no purchase follows within four weeks."""


def portrait_page(card: PortraitCard) -> str:
    """The whole page as HTML."""
    sections = [
        *(_behaviour(card), _interest(card), _order(card), _consumption(card), _social(card)),
        *(_base(card), _risk(card.flags)),
    ]
    flags = len(card.flags)
    banner = Banner(
        _state(card),
        _headline(card),
        tone="warn" if flags else "neutral",
        reasons=[flag.words for flag in card.flags],
    )
    return page(
        f"Portrait of {card.user_id}",
        banner,
        [section for section in sections if section is not None] + [_sources(card)],
        subtitle=f"As known at {_local(card):%Y-%m-%d %H:%M} {card.time_zone}, beside {card.num_users:,} shoppers",
        footer="A portrait describes; it decides nothing. Risk flags are never used to rank.",
    )


def _state(card: PortraitCard) -> str:
    """One word or two for how the shopper stands."""
    value = {one.fact: one.value for one in card.statements}
    if not value.get("rhythm__visits"):
        return "No purchase yet"
    if (value.get(f"churn__none_{CHURN_DAYS}d") or 0.0) >= AT_RISK:
        return "At risk"
    return "Active"


def _local(card: PortraitCard) -> datetime:
    return card.as_of.astimezone(ZoneInfo(card.time_zone))


def _headline(card: PortraitCard) -> str:
    said = {one.fact: one.words for one in card.statements}
    chosen = ("rhythm__usual_gap_days", "rhythm__next_days", "rhythm__visits", "looks__events_90d")
    words = [said[fact] for fact in chosen if fact in said][:2]
    return " ".join(words)


def _words(card: PortraitCard, kind: str) -> list[Html]:
    told = [one.words for one in card.statements if one.kind == kind]
    return [bullets(told)] if told else []


def _behaviour(card: PortraitCard) -> Section:
    zone = ZoneInfo(card.time_zone)
    last = (card.as_of - timedelta(microseconds=1)).astimezone(zone).date()
    spent: dict[date, float] = defaultdict(float)
    weekdays: Counter[str] = Counter()
    for basket in card.baskets:
        day = basket.at.astimezone(zone).date()
        spent[day] += basket.spend
    for day in spent:
        weekdays[WEEKDAYS[day.weekday()]] += 1
    hours = Counter(f"{basket.at.astimezone(zone).hour:02d}" for basket in card.baskets)
    figures = []
    if spent:
        figures = [
            calendar(
                "Days with a purchase, the darker the more was spent",
                spent,
                last,
                form=lambda amount: money(amount, card.currency),
            ),
            bar_chart(
                "Days of the week",
                {day: float(weekdays[day]) for day in WEEKDAYS},
                columns=True,
                note="Days with a purchase in the last year.",
            ),
        ]
    if spent and card.has_hours:
        figures.append(
            bar_chart(
                "Time of day",
                {f"{hour:02d}": float(hours[f"{hour:02d}"]) for hour in range(24)},
                columns=True,
                note="Baskets in the last year, by the hour in which they were paid.",
            )
        )
    return Section("Behaviour", figures=figures, blocks=[*_words(card, "behaviour"), _campaigns(card, zone)])


def _campaigns(card: PortraitCard, zone: ZoneInfo) -> Html:
    rows = []
    for one in card.campaigns:
        taken = one.taken_up_at.astimezone(zone) if one.taken_up_at is not None else None
        state = badge("taken up", "good") if taken else badge("open" if one.ends_at > card.as_of else "not taken up")
        sent = f"{one.targeted_at.astimezone(zone):%Y-%m-%d}" if one.targeted_at else "not sent"
        when = f"{taken:%Y-%m-%d}" + (f", {one.times} times" if one.times > 1 else "") if taken else "–"
        rows.append([one.name, one.type, sent, state, when])
    return table(
        ["Campaign", "Type", "Sent", "State", "Taken up"],
        rows,
        caption="Campaigns, the latest first",
        empty="none so far",
    )


def _interest(card: PortraitCard) -> Section:
    figures = [
        *_favourites(card.favourites, "Bought most", "lines"),
        *_favourites(card.looked_at, "Looked at most", "looks"),
    ]
    rows = [
        [
            how,
            KIND_WORDS[one.axis],
            one.value,
            one.count,
            percent(one.share),
            money(one.spend, card.currency) if how == "bought" else "–",
        ]
        for how, listed in (("bought", card.favourites), ("looked at", card.looked_at))
        for one in listed
    ]
    blocks = _words(card, "interest")
    if rows:
        blocks.append(
            fold("All favourites", table(["How", "Kind", "Favourite", "Lines or looks", "Share", "Spend"], rows))
        )
    else:
        blocks.append(paragraph("Nothing is known about what this shopper likes yet."))
    return Section("Interest", figures=figures, blocks=blocks)


def _favourites(listed: Sequence[Favourite], title: str, unit: str) -> list[Html]:
    by_axis: dict[str, list[Favourite]] = defaultdict(list)
    for one in listed:
        by_axis[one.axis].append(one)
    # Three charts fit a screen. The table below them has all.
    axes = [axis for axis in (group_axis(by_axis), "brand", "product") if axis in by_axis]
    return [
        bar_chart(
            f"{title}: {AXIS_WORDS[axis]}",
            _distinct(by_axis[axis]),
            form=percent,
            axis=f"share of {unit}",
        )
        for axis in axes
    ]


def _distinct(listed: Sequence[Favourite]) -> dict[str, float]:
    """Shares by name. Two products of one name are one bar."""
    shares: dict[str, float] = defaultdict(float)
    for one in listed:
        shares[one.value] += one.share
    return dict(shares)


def _order(card: PortraitCard) -> Section | None:
    found = card.encoding
    if found is None:
        return Section("Order of purchases", blocks=[paragraph(card.encoding_note)]) if card.encoding_note else None
    likeliest = {one.value: one.share for one in found.likeliest}
    figures = [bar_chart("Expected in the next basket", likeliest, form=percent, axis="share of lines")]
    return Section(
        "Order of purchases",
        lead="What a ranker's encoder, which reads purchases in their order, expects of this shopper.",
        figures=figures if likeliest else [],
        blocks=[
            bullets(encoding_words(found)),
            table(
                ["shopper", "similarity"],
                [[one.user_id, one.similarity] for one in found.alike],
                caption="Most alike. 1: the same direction, 0: no relation.",
            ),
        ],
    )


def _consumption(card: PortraitCard) -> Section:
    zone = ZoneInfo(card.time_zone)
    months: dict[str, float] = {}
    for basket in card.baskets:
        month = f"{basket.at.astimezone(zone):%b %Y}"
        months[month] = months.get(month, 0.0) + basket.spend
    figures = (
        [bar_chart("Spend a month", months, columns=True, axis=card.currency, wide=True)] if len(months) > 1 else []
    )
    blocks = _words(card, "consumption") or [paragraph("Has not bought anything yet.")]
    return Section("Consumption", figures=figures, blocks=blocks)


def _social(card: PortraitCard) -> Section:
    words = _words(card, "social") or [paragraph("The shop's data have no reviews, likes, comments or shares.")]
    return Section("Social", blocks=words)


def _base(card: PortraitCard) -> Section:
    rows = [[sentence_case(name), value] for name, value in card.attributes.items()]
    listed = table(["Attribute", "Value"], rows, empty="the shop's data say nothing about this shopper")
    return Section("Base", blocks=[*_words(card, "base"), listed])


def _risk(flags: Sequence[Flag]) -> Section:
    lead = (
        "Patterns that at most one in a thousand of this shop's shoppers would show by chance. A person should look at "
        "them. They are never used to rank."
    )
    if not flags:
        return Section("Risk flags", lead=lead, blocks=[paragraph("None.")])
    rows = [[sentence_case(flag.pattern), flag.words] for flag in flags]
    return Section(
        "Risk flags", lead=lead, blocks=[table(["Pattern", "What was counted"], rows, tones=["warn"] * len(rows))]
    )


def _sources(card: PortraitCard) -> Section:
    rows = [
        [
            sentence_case(one.kind),
            PLAIN_NAMES[one.fact],
            measured(one.value, one.unit, card.currency),
            one.source,
            one.age_days,
        ]
        for one in card.statements
    ]
    caption = "Age: days from the newest event behind the fact to the moment of the portrait."
    listed = table(["Kind", "Fact", "Value", "From", "Age, days"], rows, caption=caption)
    columns = [[PLAIN_NAMES[one.fact], one.fact, one.value, one.unit] for one in card.statements]
    named = table(["Fact", "Column of facts.parquet", "Value", "Unit"], columns)
    folds = [fold(f"{len(rows)} facts", listed, opened=True), fold("For data scientists: names of the columns", named)]
    return Section("Where each fact comes from", blocks=folds)
