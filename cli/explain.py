"""`explain`: which place one campaign gets for one user and why, or at which stage it drops out. Needs no endpoint."""

from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recommender.allocation.scoring import BulkScorer
from recommender.datasets.periods import microseconds
from recommender.errors import SourceError, suggestion
from recommender.matching.rerank import Rerank
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home
from serving.answer import Explanation, Ranking
from serving.request import MAX_EXCLUDED, RecommendationRequest, ScoringRequest
from serving.shop import Shop
from serving.worker.scoring import score

ALL = 100
"""Campaigns that the answer may show, the most that a request may ask for."""


def show_explanation(settings: Settings, user: str, campaign: str) -> None:
    """Explain one campaign for one user, by the champion and the features of the last materialisation.

    Raises:
        SourceError: there is no such campaign; names the nearest one.
        RegistryError, FeatureStoreError, CorruptFileError: as `BulkScorer.open`.
    """
    scorer = BulkScorer.of(settings)
    catalogue, console = scorer.catalogue, wide()
    row = catalogue.campaign_rows.get(campaign)
    if row is None:
        raise SourceError(f"unknown campaign {campaign!r}; {suggestion(campaign, catalogue.campaign_ids)}")
    shop, shopper = Shop(catalogue), scorer.shopper(user)
    # What the user has hidden, and took up since the last materialisation, is in the shipped log and not in the row.
    live = (catalogue.campaign_ids[row] for row in scorer.live_campaigns())
    out = scorer.out.get(user, {})
    excluded = [one for one in dict.fromkeys((campaign, *live)) if one in out][:MAX_EXCLUDED]

    def ask(named: list[str] | None) -> Ranking:
        request = RecommendationRequest(
            user_id=user,
            campaign_ids=named,
            exclude_campaign_ids=excluded,
            num_campaigns=ALL,
            num_items=0,
            explain=True,
        )
        asked = ScoringRequest(
            request=request,
            as_of_us=microseconds(scorer.as_of),
            allow_repeats=scorer.allow_repeats,
            rerank=scorer.rerank,
        )
        return shop.popular(asked) if shopper is None else score(scorer.ranker, shop, shopper, asked).ranking

    explanations = ask(None).explanations or []
    if all(one["campaign_id"] != campaign for one in explanations):
        explanations += ask([campaign]).explanations or []
    (explained,) = (one for one in explanations if one["campaign_id"] == campaign)
    candidates = [one for one in explanations if one["place"] is not None]
    console.print(f"{catalogue.campaign_names[row]} ({campaign}) for {user}", markup=False, highlight=False)
    if shopper is None:
        forgotten_at = Forgotten.of(Home.of(settings)).moment_of(user)
        why = (
            f"was forgotten on {forgotten_at[:16].replace('T', ' ')} UTC" if forgotten_at is not None else "is unknown"
        )
        console.print(f"The user {why}. Scores are those of an average known user, from now to the end of each window.")
    if explained["place"] is None:
        # Nothing else is excluded here.
        stage = explained["stage"] if explained["stage"] != "excluded" else out[campaign]
        console.print(
            f"No candidate: {_why_not(stage, catalogue.campaign_starts_C[row], catalogue.campaign_ends_C[row])}"
        )
    else:
        _show_place(console, explained, len(candidates), scorer.rerank)
    if candidates:
        console.print("All candidates:")
        console.print(_ranking(candidates, campaign))
    by = "popularity" if shopper is None else scorer.version
    console.print(f"by {by}, as of {scorer.as_of:%Y-%m-%d %H:%M} UTC", highlight=False)


def _why_not(stage: str, starts_us: int, ends_us: int) -> str:
    match stage:
        case "not_started":
            return f"it starts on {_date(starts_us)}"
        case "ended":
            return f"it ended on {_date(ends_us)}"
        case "taken_up":
            return "the user has taken it up already, and serving.allow_repeats is off"
        case "hidden":
            return "the user has hidden or disliked it"
        case other:
            return other


def _show_place(console: Console, explained: Explanation, num_candidates: int, rerank: Rerank) -> None:
    console.print(f"Place {explained['place']} of {num_candidates}, score {explained['score']:.4f}", highlight=False)
    if explained["place_by_score"] != explained["place"]:
        console.print(
            f"Re-ranking ({rerank.kind}, trade-off {rerank.trade_off:g}) moved it there from place "
            f"{explained['place_by_score']} by score",
            highlight=False,
        )
    for reason in explained["reasons"]:
        console.print(f"· {reason}", markup=False, highlight=False)
    if explained["contributions"] is not None:
        console.print("What raised and lowered the score:")
        console.print(
            "contributions to the log-odds of taking part at any time in the window, relative to the ranker's average; "
            "the timing is not among them"
        )
        table = Table("kind of fact", "log-odds")
        for group, weight in sorted(explained["contributions"].items(), key=lambda entry: -abs(entry[1])):
            table.add_row(group, f"{weight:+.3f}")
        console.print(table)


def _ranking(candidates: list[Explanation], campaign: str) -> Table:
    table = Table("#", "campaign", "score")
    for one in candidates:
        style = "bold" if one["campaign_id"] == campaign else None
        table.add_row(str(one["place"]), escape(one["campaign_id"]), f"{one['score']:.4f}", style=style)
    return table


def _date(moment_us: int) -> str:
    return f"{datetime.fromtimestamp(int(moment_us) / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
