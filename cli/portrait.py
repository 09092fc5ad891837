"""`portrait`: what is known of one shopper, in the terminal and as a page. Needs no endpoint."""

from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recommender.allocation.encodings import encode_user
from recommender.features.facts.favourites import SEARCHES
from recommender.report.encoding_words import encoding_words
from recommender.report.portrait import portrait_page
from recommender.report.portrait_card import PortraitCard, group_axis, read_card
from recommender.report.portrait_names import sentence_case
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import write_text

SHOWN_CAMPAIGNS = 5
"""Campaigns in the terminal. The page has all."""


def show_portrait(settings: Settings, user: str, page: Path | None, *, as_json: bool, encoder: bool) -> None:
    """Print one shopper's portrait as sentences or as JSON, and write its page if a file is named.

    `encoder`: whether a sequence encoder is asked, which takes some seconds.

    Raises:
        FeatureStoreError: no run has built features yet.
        SourceError: nobody has this identifier, or the shopper was forgotten.
    """
    card = read_card(settings, user)
    if encoder:
        encoding, note = encode_user(Home.of(settings).root, user)
        card = card.model_copy(update={"encoding": encoding, "encoding_note": note})
    if page is not None:
        write_text(page, portrait_page(card))
    if as_json:
        print(card.model_dump_json(indent=1))
        return
    _show(card)
    if page is not None:
        wide().print(f"page: {page}", highlight=False, soft_wrap=True)


def _show(card: PortraitCard) -> None:
    console = wide()
    console.print(
        f"[bold]Shopper {escape(card.user_id)}[/], as known at {card.as_of:%Y-%m-%d %H:%M} UTC", highlight=False
    )
    attributes = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card.attributes.items())
    if attributes:
        console.print(attributes, markup=False, highlight=False)
    for kind in ("base", "behaviour", "interest", "consumption", "social"):
        told = [one.words for one in card.statements if one.kind == kind]
        if kind == "interest":
            told += _favourites(card)
        if told:
            console.print(f"[bold]{sentence_case(kind)}[/]")
        for words in told:
            console.print(f"· {words}", markup=False, highlight=False)
    _expected(console, card)
    if card.campaigns:
        console.print(_campaigns(card))
    for flag in card.flags:
        console.print(f"[yellow]risk flag, {flag.pattern.replace('_', ' ')}:[/] {escape(flag.words)}", highlight=False)


def _expected(console: Console, card: PortraitCard) -> None:
    told = [card.encoding_note] if card.encoding is None else encoding_words(card.encoding)
    if any(told):
        console.print("[bold]order of purchases[/]")
    for words in filter(None, told):
        console.print(f"· {words}", markup=False, highlight=False)


def _favourites(card: PortraitCard) -> list[str]:
    told = []
    for start, listed in (("Buys most", card.favourites), ("Looks most at", card.looked_at)):
        group = group_axis({one.axis for one in listed})
        names = [one.value for one in listed if one.axis == group]
        if names:
            told.append(f"{start}: {', '.join(names)}.")
    searched = [one.value for one in card.looked_at if one.axis == SEARCHES]
    if searched:
        told.append(f"Searches most for: {', '.join(searched)}.")
    return told


def _campaigns(card: PortraitCard) -> Table:
    table = Table("Campaign", "Type", "Sent", "Taken up")
    zone = ZoneInfo(card.time_zone)
    for one in card.campaigns[:SHOWN_CAMPAIGNS]:
        sent = f"{one.targeted_at.astimezone(zone):%Y-%m-%d}" if one.targeted_at else "not sent"
        taken = f"{one.taken_up_at.astimezone(zone):%Y-%m-%d}" if one.taken_up_at else "–"
        table.add_row(escape(one.name), escape(one.type), sent, taken)
    return table
