"""Inputs of both commits: a synthetic shop, a file of events for next-item rankers, and requests to the gateway.

All of it is fixed by `SEED`, and `digest()` names it, so that results kept in a cache are used only for the same
inputs.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FORMAT = 2
"""Raise it when the facts that runs.py reads change their form: results in a cache are then made anew."""
SEED = 26
"""Chosen by hand. It has no meaning. Another seed gives other inputs."""

NEXT_ITEM_RANKERS = (
    *("item_popularity", "user_cf", "item_cf", "content", "svd", "als", "bpr", "factorization_machine", "neural_cf"),
    *("two_tower", "caser", "gru4rec", "sasrec", "bert4rec", "rules", "content_rules", "fusion", "student"),
)
CHALLENGER = "transformer"
BASELINES = ("popularity", "rate_rule", "lightgbm", *NEXT_ITEM_RANKERS, "logistic")
"""Every campaign ranker but the challenger. The last one is the first champion."""

NUM_USERS, NUM_CAMPAIGNS = 400, 30
"""Of the shop, see below. The questions name them."""
# Small enough that 23 rankers are trained at three boundaries in four minutes. Windows of five weeks keep three
# campaigns live at the end of the log, so that an answer is a ranking. Who shops in a sequence can be foretold, so
# that scores differ between users.
SHOP = f"""
[source]
dataset = "synthetic"
[source.synthetic]
preference = "sequence"
seed = {SEED}
num_users = {NUM_USERS}
num_items = 120
num_campaigns = {NUM_CAMPAIGNS}
num_categories = 8
window_days = 35
days_between_baskets = 12.0

[training]
challenger = "{CHALLENGER}"
baselines = {json.dumps(BASELINES)}
threads = 1
seed = 17
[training.rankers.transformer]
width = 16
blocks = 1
members = 2
min_product_lines = 10
pretrain_min_steps = 20
[training.rankers.fusion]
members = 1
width = 16
epochs = 1
[training.rankers.student]
width = 16
epochs = 1
lists = 500
teacher = {{ members = 1, epochs = 1, width = 16 }}
"""
# Half of the users get the canary, so that two models answer. Deadlines leave room for a busy machine: an answer that
# came late would differ for a reason that has nothing to do with the code.
SERVING = """
[serving]
deadline_ms = 20000
store_deadline_ms = 10000
canary_share = 0.5
"""
# Limits that any challenger keeps. The gate then promotes the transformer whatever the machine's speed, and there is
# a canary.
JUDGEMENT = """
[gate]
margin = 1.0
bootstrap_samples = 100
min_positives = 5

[guardrails]
max_ece = 1.0
max_ece_increase = 1.0
max_slice_auc_drop = 1.0
max_latency_ms = 100000.0
"""

BENCHMARKED: dict[str, dict[str, int]] = {
    "rules": {},
    "content_rules": {},
    "sasrec": {"epochs": 20},
    "fusion": {"epochs": 20, "members": 2, "width": 32},
}
"""Next-item rankers that `benchmark sequences` fits, judges and keeps, with the hyperparameters that make it quick."""
CATEGORIES, ITEMS_A_CATEGORY = 6, 12
"""Of the file of events: 72 items, chosen by hand, so that rankers train in seconds."""
COLD_ITEMS = 6
"""Items that only the attributes name: what `content_rules` and `fusion` say of them comes from content alone. By
hand."""


def shop_settings(home: Path, judgement: Path, ports: Mapping[str, int]) -> str:
    """The settings file of the small shop, as TOML. `ports`: keys of `[serving]` with free ports."""
    listening = "".join(f"{name} = {port}\n" for name, port in ports.items())
    places = f"home = {json.dumps(str(home))}\njudgement = {json.dumps(str(judgement))}\n"
    return places + SHOP + SERVING + listening


def events() -> str:
    """A CSV of users who walk through categories in order, have favourites, and sometimes buy an item again.

    The numbers are chosen by hand; changing one changes the inputs.
    """
    chance, lines = random.Random(SEED), ["user,item,timestamp"]
    for user in range(600):
        time_s = 1_600_000_000 + chance.randrange(90 * 86_400)
        category, favourite = chance.randrange(CATEGORIES), chance.randrange(ITEMS_A_CATEGORY)
        had: list[int] = []
        for _ in range(chance.randrange(4, 26)):
            time_s += chance.randrange(3_600, 4 * 86_400)
            category = (category + 1) % CATEGORIES if chance.random() < 0.5 else chance.randrange(CATEGORIES)
            usual = favourite if chance.random() < 0.5 else min(int(chance.expovariate(0.3)), ITEMS_A_CATEGORY - 1)
            item = chance.choice(had) if had and chance.random() < 0.15 else category * ITEMS_A_CATEGORY + usual
            had.append(item)
            lines.append(f"u{user:03d},i{item:02d},{time_s}")
    return "\n".join(lines) + "\n"


def attributes() -> str:
    """A CSV of each item's category, brand and text, with `COLD_ITEMS` more than there are events of."""
    lines = ["item,attributes,title"]
    for item in range(CATEGORIES * ITEMS_A_CATEGORY + COLD_ITEMS):
        kind = item // ITEMS_A_CATEGORY % CATEGORIES
        title = f"a {('red', 'blue', 'green')[item % 3]} thing of kind {kind}"
        lines.append(f"i{item:02d},category-{kind}|brand-{item % 5},{title}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Request:
    """A POST to the gateway. `shown` confirms an earlier answer: its number and the campaigns to name."""

    kind: str
    body: str = ""
    path: str = "/v1/recommendations"
    content_type: str = "application/json"
    shown: tuple[int, str] | None = None


def requests() -> list[Request]:
    """200 questions of known and unknown users, exposures of some answers, and requests that are refused."""
    asked = [Request("answers", json.dumps(question)) for question in _questions()]
    shown = [
        Request("exposures", path="/v1/exposures", shown=(number, which))
        for number, which in zip(range(0, 200, 10), ("all", "first", "foreign", "all") * 5, strict=True)
    ]
    bodies = [
        *("", "[]", "{", '{"user_id": }', '{"user_id": ""}', '{"user_id": 1}', '{"user": "user-00001"}'),
        *('{"user_id": "user-00001", "num_campaigns": 0}', '{"user_id": "user-00001", "num_items": 51}'),
        *('{"user_id": "user-00001", "campaign_ids": []}', '{"user_id": "user-00001", "campaign_ids": ["a", 2]}'),
        *(
            '{"user_id": "user-00001", "context": {"page": {}}}',
            '{"user_id": "a\\u0000b"}',
            '{"user_id": null, "k": 1}',
        ),
    ]
    refused = [
        *(Request("refusals", body) for body in bodies),
        Request("refusals", '{"user_id": "user-00001"}', content_type="text/plain"),
        Request("refusals", '{"request_id": "20240101-000000000000-0.0.0000000000000000"}', path="/v1/exposures"),
        Request("refusals", "{}", path="/v1/nowhere"),
        Request("refusals", json.dumps({"user_id": "user-00001", "context": {"page": "x" * 300_000}})),
    ]
    return [*asked, *shown, *refused]


def _questions() -> list[dict[str, object]]:
    # Shares and ranges are chosen by hand, so that every field is given in some questions and left out in others.
    chance, questions = random.Random(SEED), []
    campaigns = [f"campaign-{number:03d}" for number in range(NUM_CAMPAIGNS)]
    for number in range(200):
        known = f"user-{chance.randrange(NUM_USERS):05d}"
        question: dict[str, object] = {"user_id": f"stranger-{number}" if number % 8 == 7 else known}
        if chance.random() < 0.7:
            question["num_campaigns"] = chance.randrange(1, 6)
        if chance.random() < 0.7:
            question["num_items"] = chance.randrange(0, 9)
        if chance.random() < 0.4:
            # The last campaigns are live; the others have ended and are reported as dropped, as is one that never was.
            named = [*chance.sample(campaigns[-5:], 3), chance.choice(campaigns), "campaign-of-nobody"]
            question["campaign_ids"] = chance.sample(named, chance.randrange(1, 6))
        if chance.random() < 0.3:
            question["context"] = {"page": chance.choice(["home", "cart"]), "place": number, "new": number % 2 == 0}
        questions.append(question)
    return questions


def digest() -> str:
    """A short hash of all inputs."""
    asked = [asdict(request) for request in requests()]
    everything = [FORMAT, SHOP, SERVING, JUDGEMENT, BENCHMARKED, events(), attributes(), asked]
    # Ten hex digits, 40 bits: a cache has a few inputs.
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:10]
