"""What every user of the default data is shown: repeats, reasons, names of items. Needs a finished `recommender run`.

The answers come from the functions that the model server calls, with the champion and the features of the last run. The
reasons are counted again in the log.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.decision.log_facts import Said, contradicted
from benchmarks.decision.rows import Row
from recommender.allocation.scoring import BulkScorer
from recommender.datasets import ingest
from recommender.datasets.contract import open_views
from recommender.datasets.periods import microseconds
from recommender.datasets.tables import Tables
from recommender.matching.affinity import AXES, unpack_user
from recommender.matching.item_choice import MAX_TYPE_SHARE
from recommender.settings import load_settings
from serving.answer import Campaign
from serving.request import RecommendationRequest, ScoringRequest
from serving.shop import Shop
from serving.worker.scoring import score

NUM_ITEMS = 5
"""Items of a campaign, as a request has them that does not say otherwise."""
BASE_RATE = "in 100 shoppers"
"""Words of the reason that is the rate of other users."""


@dataclass(frozen=True)
class Answered:
    """One user's answer, and whether the user has bought items of its first campaign."""

    user_id: str
    campaigns: list[Campaign]
    has_own_items: bool


def rows(say: Callable[[str], None]) -> list[Row]:
    """Answer every user of the last materialisation, and judge the answers."""
    settings = load_settings(Path("recommender.toml"))
    scorer = BulkScorer.open(settings.home)
    shop = Shop(scorer.catalogue)
    answers = list(_answers(scorer, shop))
    newcomer = shop.popular(_asked("someone whom no store knows", scorer))
    say(f"answered {len(answers):,} users for {len(scorer.live_campaigns())} live campaigns by {scorer.version}")
    with tempfile.TemporaryDirectory() as folder:
        tables = ingest(settings.source, Path(folder) / "tables")
        return [
            *_repeats(tables, scorer, answers),
            *_reasons(tables, scorer, answers),
            *_items(scorer, answers),
            _difference(scorer, answers),
            _newcomers(scorer, newcomer.campaigns),
        ]


def _asked(user_id: str, scorer: BulkScorer) -> ScoringRequest:
    request = RecommendationRequest(user_id=user_id, num_items=NUM_ITEMS, num_campaigns=100)
    return ScoringRequest(request=request, as_of_us=microseconds(scorer.as_of))


def _answers(scorer: BulkScorer, shop: Shop) -> Iterator[Answered]:
    product = AXES.index("product")
    for shopper in scorer.shoppers():
        campaigns = score(scorer.ranker, shop, shopper, _asked(shopper.user_id, scorer)).ranking.campaigns
        own = False
        if campaigns:
            user = unpack_user(shopper.affinity, scorer.catalogue.numbering)
            row = scorer.catalogue.campaign_rows[campaigns[0]["campaign_id"]]
            items = scorer.catalogue.item_axes_VA[scorer.catalogue.items_of(row), product]
            own = bool(np.isin(user.values[product], items).any())
        yield Answered(shopper.user_id, campaigns, own)


def _repeats(tables: Tables, scorer: BulkScorer, answers: list[Answered]) -> list[Row]:
    live = [scorer.catalogue.campaign_ids[row] for row in scorer.live_campaigns()]
    with open_views(tables) as connection:
        taken_up = connection.execute(
            "SELECT DISTINCT user_id, campaign_id FROM participations WHERE participated_at < ? "
            "AND list_contains(?, campaign_id)",
            [scorer.as_of, live],
        ).fetchall()
    users = {user_id for user_id, _ in taken_up}
    again = {
        answer.user_id
        for answer in answers
        for campaign in answer.campaigns
        if (answer.user_id, campaign["campaign_id"]) in set(taken_up)
    }
    name = "users who redeemed a live campaign and get it again"
    return [Row.at_most(name, len(again), 0, users=len(users), today="30 of 30")]


def _reasons(tables: Tables, scorer: BulkScorer, answers: list[Answered]) -> list[Row]:
    first = [(answer, answer.campaigns[0]) for answer in answers if answer.campaigns]
    bare = [answer for answer, campaign in first if all(BASE_RATE in reason for reason in campaign["reasons"])]
    said = [
        Said(answer.user_id, campaign["campaign_id"], reason)
        for answer in answers
        for campaign in answer.campaigns
        for reason in campaign["reasons"]
        if BASE_RATE not in reason
    ]
    checked, wrong = contradicted(tables, scorer.as_of, said)
    return [
        Row.at_most(
            "first campaigns with only the base-rate reason, among users with own items in it",
            sum(answer.has_own_items for answer in bare),
            0,
            users_with_own_items=sum(answer.has_own_items for answer, _ in first),
            of_all_users=len(bare),
            users=len(first),
            today="226 of 298 first campaigns in all",
        ),
        Row.at_most("reasons that the log contradicts", len(wrong), 0, reasons=checked),
    ]


def _items(scorer: BulkScorer, answers: list[Answered]) -> list[Row]:
    catalogue, repeated, crowded, short, shown = scorer.catalogue, 0, 0, 0, 0
    row_of = {item_id: row for row, item_id in enumerate(catalogue.item_ids)}
    product_type = AXES.index("product_type")
    for answer in answers:
        names = [[item["name"] for item in campaign["items"]] for campaign in answer.campaigns]
        repeated += any(len(set(one)) < len(one) for one in names)
        for campaign in answer.campaigns:
            kinds = Counter(
                int(catalogue.item_axes_VA[row_of[item["item_id"]], product_type]) for item in campaign["items"]
            )
            shown += 1
            short += len(campaign["items"]) < NUM_ITEMS
            crowded += max(kinds.values(), default=0) > np.ceil(NUM_ITEMS * MAX_TYPE_SHARE)
    return [
        Row.at_most("answers that repeat an item name", repeated, 0, answers=len(answers), today="142 of 298"),
        Row(
            name="shown campaigns in which a product type exceeds its share",
            value=crowded,
            goal="",
            facts={"campaigns": shown, "why": "the campaign has no other types"},
        ),
        Row.at_least("share of shown campaigns with as many items as asked", 1 - short / shown, 1),
    ]


def _difference(scorer: BulkScorer, answers: list[Answered]) -> Row:
    """Compare the scores of a batch with those of one request for each user."""
    batch = {
        (row["user_id"], row["campaign_id"]): row["score"]
        for batch in scorer.score(scorer.live_campaigns())
        for row in batch.to_pylist()
    }
    asked = {(answer.user_id, one["campaign_id"]): one["score"] for answer in answers for one in answer.campaigns}
    if set(batch) != set(asked):
        raise AssertionError(f"{len(set(batch) ^ set(asked))} pairs are in a batch or in an answer only")
    largest = max(abs(batch[pair] - asked[pair]) for pair in batch)
    return Row.at_most(
        "largest difference between a score of a batch and of an answer", largest, 1e-6, pairs=len(batch)
    )


def _newcomers(scorer: BulkScorer, popular: list[Campaign]) -> Row:
    """Compare a newcomer's scores with the mean score of all known users, campaign by campaign."""
    scores: dict[str, list[float]] = {}
    for batch in scorer.score(scorer.live_campaigns()):
        for row in batch.to_pylist():
            scores.setdefault(row["campaign_id"], []).append(row["score"])
    newcomer = {campaign["campaign_id"]: campaign["score"] for campaign in popular}
    means = {name: float(np.mean(of)) for name, of in scores.items()}
    above = {name: float(np.mean(np.array(of) < newcomer[name])) for name, of in scores.items()}
    return Row(
        name="a newcomer's mean score over that of all known users",
        value=float(np.mean(list(newcomer.values()))) / float(np.mean(list(means.values()))),
        goal="",
        facts={
            "newcomer": newcomer,
            "mean_of_known_users": means,
            "share_of_known_users_below_the_newcomer": above,
            "share_of_known_users_below_their_own_mean": {
                name: float(np.mean(np.array(of) < means[name])) for name, of in scores.items()
            },
            "today": "0.066 beside 0.016; above 0.95 of the known users",
        },
    )
