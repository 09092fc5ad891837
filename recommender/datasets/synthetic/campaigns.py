"""Draws the campaigns of a synthetic world: whom they target, who participates, and the true probabilities of both.

Numbers without a stated reason are chosen by hand so that the world looks like a plausible shop; changing one changes
the bytes of every generated world.

Shapes: U users · C campaigns · K categories · R participations with a purchase · E purchase lines · T baskets of one
user.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.synthetic.shop import Shop
from recommender.datasets.synthetic.world import World
from recommender.datasets.tables import CAMPAIGN_KINDS, TIME
from recommender.datasets.time_units import DAY_US, MONTH_DAYS

TYPES = ("A", "B", "C")
TYPE_FACTORS = (1.4, 1.0, 0.6)
"""`affinity`: a type's mean probability as a multiple of the world's. The types must differ, as they do in real
shops. Chosen by hand; their mean is 1."""
MIN_PROPENSITY, MAX_PROPENSITY = 0.05, 0.95
"""Every user may be targeted or not: off-policy estimates need propensities away from 0 and 1. By hand."""
PRIOR_PARTICIPATIONS, PRIOR_TARGETS = 1, 8
"""Smoothing of a user's past participation rate: new users start at 1/8, near the default `participation_rate`."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """All campaigns with their outcomes. Times are microseconds since 1970, UTC. Rows refer to a `Shop`'s arrays."""

    campaign_ids: tuple[str, ...]
    category_C: NDArray[np.int64]
    days_C: NDArray[np.int64]
    """Day of the world on which each campaign starts."""
    starts_C: NDArray[np.int64]
    ends_C: NDArray[np.int64]
    items_C: tuple[NDArray[np.int64], ...]
    """Rows of each campaign's items, ascending."""
    propensity_CU: NDArray[np.float64]
    """Probability that the user is targeted."""
    probability_CU: NDArray[np.float64]
    """Probability that the user participates if targeted."""
    targeted_CU: NDArray[np.bool_]
    participated_us_CU: NDArray[np.int64]
    """Time of the participation. -1 if there was none before the log's end."""
    coupon_basket_R: NDArray[np.int64]
    coupon_item_R: NDArray[np.int64]
    coupon_campaign_R: NDArray[np.int64]

    def campaign_views(self, log_end: int, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
        """Draw views of campaigns: half of the targeted users look at it within two days of the decision."""
        campaign, user = np.nonzero(self.targeted_CU & (rng.random(self.targeted_CU.shape) < 0.5))
        when = self.starts_C[campaign] + rng.integers(1, 2 * DAY_US, size=len(user))
        campaign, user, when = (values[when < log_end] for values in (campaign, user, when))
        none = np.full(len(user), -1)
        return {"user": user, "time": when, "basket": none, "item": none, "campaign": campaign}


def draw_outcomes(world: World, shop: Shop, rng: np.random.Generator) -> Outcomes:
    """Draw campaigns in order of time. A campaign's probabilities depend only on what was known when it started."""
    C, U = world.num_campaigns, world.num_users
    # The last campaign starts three days before the log's end, so that some outcomes are unknown, as in a real log.
    days_C = np.linspace(world.first_campaign_day, world.days - 3, C).astype(int)
    starts_C = np.array([world.day_us(int(day)) for day in days_C])
    ends_C = np.array([world.day_us(int(day) + world.window_days) for day in days_C])
    category_C = np.concatenate([rng.permutation(world.num_categories) for _ in range(C // world.num_categories + 1)])[
        :C
    ]
    items_C = tuple(_draw_items(world, shop, int(category), rng) for category in category_C)
    propensity_CU, probability_CU = np.empty((C, U)), np.empty((C, U))
    targeted_CU = np.zeros((C, U), dtype=np.bool_)
    participated_CU = np.full((C, U), -1)
    coupons: list[tuple[int, int, int]] = []
    line_user_E = shop.basket_user_B[shop.line_basket_E]
    line_time_E = shop.basket_time_B[shop.line_basket_E]
    by_time_E = np.argsort(line_time_E, kind="stable")
    counts_UK = np.zeros((U, world.num_categories))
    read = 0
    for campaign in range(C):
        start = int(starts_C[campaign])
        until = int(np.searchsorted(line_time_E[by_time_E], start))
        new = by_time_E[read:until]
        np.add.at(counts_UK, (line_user_E[new], shop.category_I[shop.line_item_E[new]]), 1)
        read = until
        monthly_U = counts_UK[:, category_C[campaign]] / (days_C[campaign] / MONTH_DAYS)
        past_CU = (participated_CU >= 0) & (participated_CU < start)
        rate_U = (past_CU.sum(0) + PRIOR_PARTICIPATIONS) / (targeted_CU.sum(0) + PRIOR_TARGETS)
        propensity_CU[campaign] = _propensity(world, monthly_U, rng)
        probability_CU[campaign] = _probability(
            world, shop, campaign, int(category_C[campaign]), start, monthly_U, rate_U
        )
        targeted_CU[campaign] = rng.random(U) < propensity_CU[campaign]
        participates_U = targeted_CU[campaign] & (rng.random(U) < probability_CU[campaign])
        for user in np.flatnonzero(participates_U).tolist():
            when, basket = _redeem(world, shop, user, int(category_C[campaign]), start, int(ends_C[campaign]), rng)
            if when < world.day_us(world.days):
                participated_CU[campaign, user] = when
                if basket >= 0:
                    coupons.append((basket, _new_item(shop, basket, items_C[campaign], rng), campaign))
    rows_R3 = np.array(
        sorted({(basket, item): (basket, item, c) for basket, item, c in coupons if item >= 0}.values())
    ).reshape(-1, 3)
    return Outcomes(
        campaign_ids=tuple(f"campaign-{row:03d}" for row in range(C)),
        category_C=category_C,
        days_C=days_C,
        starts_C=starts_C,
        ends_C=ends_C,
        items_C=items_C,
        propensity_CU=propensity_CU,
        probability_CU=probability_CU,
        targeted_CU=targeted_CU,
        participated_us_CU=participated_CU,
        coupon_basket_R=rows_R3[:, 0].astype(np.int64),
        coupon_item_R=rows_R3[:, 1].astype(np.int64),
        coupon_campaign_R=rows_R3[:, 2].astype(np.int64),
    )


def _draw_items(world: World, shop: Shop, category: int, rng: np.random.Generator) -> NDArray[np.int64]:
    in_category = np.flatnonzero(shop.category_I == category)
    return np.sort(rng.choice(in_category, size=min(world.items_a_campaign, len(in_category)), replace=False))


def _standardised(monthly_U: NDArray[np.float64]) -> NDArray[np.float64]:
    log_U = np.log1p(monthly_U)
    return np.asarray((log_U - log_U.mean()) / (log_U.std() + 1e-9))  # 1e-9: no division by 0 where all users are alike


def _propensity(world: World, monthly_U: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Compute each user's probability of being targeted.

    In an `affinity` world the shop prefers those who buy in the category, but less sharply than users themselves do
    (0.6 of the standardised affinity). In a `sequence` world it prefers no users. Noise makes propensities differ in
    both.
    """
    log_odds_U = rng.normal(0, 0.3, size=len(monthly_U))
    if world.preference == "affinity":
        log_odds_U = log_odds_U + 0.6 * _standardised(monthly_U)
    return np.clip(_calibrated(log_odds_U, world.mean_propensity), MIN_PROPENSITY, MAX_PROPENSITY)


def _probability(
    world: World,
    shop: Shop,
    campaign: int,
    category: int,
    start: int,
    monthly_U: NDArray[np.float64],
    rate_U: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute each user's probability of participating if targeted, as the docstring of `world` defines it."""
    if world.preference == "sequence":
        last_U = _last_categories(shop, start, world.num_users)
        hit_U = np.where(last_U >= 0, shop.successor_K[np.maximum(last_U, 0)] == category, False)
        return np.where(hit_U, world.high_probability, world.low_probability)
    # At most 0.9, so that a world with a high rate keeps users who do not participate; the weight 4 of the past
    # participation rate is chosen by hand.
    mean = min(world.participation_rate * TYPE_FACTORS[campaign % len(TYPES)], 0.9)
    return _calibrated(world.strength * _standardised(monthly_U) + 4 * (rate_U - rate_U.mean()), mean)


def _last_categories(shop: Shop, before: int, num_users: int) -> NDArray[np.int64]:
    """Return the category of each user's last basket before a time, or -1 without one, int64 [U]."""
    past_U = np.bincount(shop.basket_user_B[shop.basket_time_B < before], minlength=num_users)
    first_U = np.searchsorted(shop.basket_user_B, np.arange(num_users))
    last_U = np.minimum(first_U + np.maximum(past_U, 1) - 1, len(shop.basket_category_B) - 1)
    return np.where(past_U > 0, shop.basket_category_B[last_U], -1)


def _calibrated(log_odds_U: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Turn log-odds into probabilities after shifting them so that the mean probability is `mean`."""
    # Bisection over all shifts that matter: at 40 a logistic rounds to 1. Sixty halvings reach float64's precision.
    low, high = -40.0, 40.0
    for _ in range(60):
        shift = (low + high) / 2
        low, high = (shift, high) if (1 / (1 + np.exp(-(log_odds_U + shift)))).mean() < mean else (low, shift)
    return np.asarray(1 / (1 + np.exp(-(log_odds_U + low))))


def _redeem(
    world: World, shop: Shop, user: int, category: int, start: int, end: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Return when a user participates, and with which basket: the first one in the window, or -1 without one.

    In a `sequence` world the basket must be of the campaign's category.
    """
    first, last = np.searchsorted(shop.basket_user_B, [user, user + 1])
    times_T = shop.basket_time_B[first:last]
    eligible_T = (times_T >= start) & (times_T < end)
    if world.preference == "sequence":
        eligible_T &= shop.basket_category_B[first:last] == category
    if eligible_T.any():
        basket = int(first + np.argmax(eligible_T))
        return int(shop.basket_time_B[basket]), basket
    # Without a basket the time is drawn; beta(1, 2) makes early participations likelier than late ones.
    return int(start + (end - start) * rng.beta(1, 2)), -1


def _new_item(shop: Shop, basket: int, items: NDArray[np.int64], rng: np.random.Generator) -> int:
    """Draw a campaign item that the basket does not contain yet, or -1 if it contains them all."""
    first, last = np.searchsorted(shop.line_basket_E, [basket, basket + 1])
    missing = np.setdiff1d(items, shop.line_item_E[first:last])
    return int(rng.choice(missing)) if len(missing) else -1


def campaign_frames(world: World, shop: Shop, outcomes: Outcomes) -> dict[str, pa.Table]:
    """Build the tables campaigns, campaign_items, targets and participations.

    Campaigns take the contract's kinds in turn. A campaign of kind `coupon` has two coupons.
    """
    C = len(outcomes.campaign_ids)
    kinds = [CAMPAIGN_KINDS[row % len(CAMPAIGN_KINDS)] for row in range(C)]
    titles = ("Weekly promotion", "Coupon booklet", "Members' days", "New on the shelf")  # one for each kind
    names = [
        f"{titles[row % 4]}, {world.first_day + timedelta(days=int(day))}" for row, day in enumerate(outcomes.days_C)
    ]
    items = [
        (campaign, shop.item_ids[item], f"{campaign}-coupon-{place % 2}" if kind == "coupon" else None)
        for campaign, kind, rows in zip(outcomes.campaign_ids, kinds, outcomes.items_C, strict=True)
        for place, item in enumerate(rows.tolist())
    ]
    chosen_C, chosen_U = np.nonzero(outcomes.targeted_CU)
    participant_C, participant_U = np.nonzero(outcomes.participated_us_CU >= 0)
    ids, users = np.array(outcomes.campaign_ids, dtype=object), np.array(shop.user_ids, dtype=object)
    redemptions = zip(
        outcomes.coupon_campaign_R.tolist(),
        shop.basket_user_B[outcomes.coupon_basket_R].tolist(),
        outcomes.coupon_item_R.tolist(),
        strict=True,
    )
    item_of = {(campaign, user): item for campaign, user, item in redemptions}
    coupons = [
        _coupon_id(outcomes, kinds, campaign, item_of.get((campaign, user)))
        for campaign, user in zip(participant_C.tolist(), participant_U.tolist(), strict=True)
    ]
    return {
        "campaigns": pa.table(
            {
                "campaign_id": pa.array(outcomes.campaign_ids),
                "kind": kinds,
                "campaign_type": [TYPES[row % len(TYPES)] for row in range(C)],
                "name": names,
                "starts_at": pa.array(outcomes.starts_C, TIME),
                "ends_at": pa.array(outcomes.ends_C, TIME),
            }
        ),
        "campaign_items": pa.table(
            {
                name: pa.array([row[place] for row in items], pa.string())
                for place, name in enumerate(("campaign_id", "item_id", "coupon_id"))
            }
        ),
        "targets": pa.table(
            {
                "campaign_id": pa.array(ids[chosen_C], pa.string()),
                "user_id": pa.array(users[chosen_U], pa.string()),
                "targeted_at": pa.array(outcomes.starts_C[chosen_C], TIME),
                "propensity": outcomes.propensity_CU[chosen_C, chosen_U],
            }
        ),
        "participations": pa.table(
            {
                "campaign_id": pa.array(ids[participant_C], pa.string()),
                "user_id": pa.array(users[participant_U], pa.string()),
                "participated_at": pa.array(outcomes.participated_us_CU[participant_C, participant_U], TIME),
                "coupon_id": pa.array(coupons, pa.string()),
            }
        ),
    }


def _coupon_id(outcomes: Outcomes, kinds: list[str], campaign: int, item: int | None) -> str | None:
    """Return the coupon that covers the item bought, or the campaign's first coupon without a purchase."""
    if kinds[campaign] != "coupon":
        return None
    place = 0 if item is None else int(np.searchsorted(outcomes.items_C[campaign], item))
    return f"{outcomes.campaign_ids[campaign]}-coupon-{place % 2}"
