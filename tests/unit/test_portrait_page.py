"""`recommender portrait`: one shopper in plain words, as a page and as JSON."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from feature_shop import AS_OF, Shop
from typer.testing import CliRunner

from cli.main import app
from feature_repo.materialisation import materialise
from recommender.features import build
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import ServingSchema
from recommender.matching.timing import Timing
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.transformer import TransformerRanker
from recommender.models.campaign.transformer_config import TransformerConfig
from recommender.models.campaign.transformer_network import Network
from recommender.models.campaign.vocabulary import Vocabulary
from recommender.registry import Registry, bundle
from recommender.settings import Settings
from recommender.storage import forgotten
from recommender.storage.home import Home


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose features were materialised, with a shopper and a category that have Chinese names."""
    folder = tmp_path_factory.mktemp("shop")
    shop = Shop.generate(folder / "world")
    shop = shop.adding("users", [{"user_id": "新客<1>"}])
    shop = shop.adding(
        "items", [{"item_id": "mooncake", "name": "月饼 <礼盒>", "category": "糕点", "brand": "自有品牌"}]
    )
    looks = [
        {
            "event_id": f"look-{k}",
            "user_id": "新客<1>",
            "kind": "view",
            "item_id": "mooncake",
            "event_time": AS_OF - timedelta(days=k + 1),
        }
        for k in range(3)
    ]
    asked = {"event_id": "asked", "user_id": "新客<1>", "kind": "search", "query": "月饼礼盒", "item_id": None}
    looks.append({**asked, "event_time": AS_OF - timedelta(days=2)})
    features = build(shop.adding("events", looks).write(folder / "tables"), folder / "features", as_of=AS_OF)
    materialise(features, Settings(home=folder / "home"))
    file = folder / "settings.toml"
    file.write_text(f'home = "{folder / "home"}"\n', encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def encoding_shop(settings_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shop, whose registry has a small transformer, trained an hour before the features."""
    folder = tmp_path_factory.mktemp("encoding")
    shutil.copytree(settings_file.parent / "home", folder / "home", symlinks=True)
    catalogue = Catalogue.load(settings_file.parent / "home" / "catalogue")
    config = TransformerConfig(width=8, blocks=1, heads=1)
    bought_T = np.repeat(np.arange(1, len(catalogue.item_ids), dtype=np.int32), 9)
    vocabulary = Vocabulary.of(catalogue, bought_T, min_lines=1, min_product_lines=1)
    torch.manual_seed(5)
    preprocessing = Preprocessing.fit(np.zeros((4, 1), dtype=np.float32), clip=4.0)
    network = Network(vocabulary, preprocessing.num_inputs, config)
    ranker = TransformerRanker(network, preprocessing, vocabulary, ("base__member_days",), config, {})
    for fit in ("gate", "test", "live"):
        bundle.save(HorizonRanker(ranker, Timing.prior()), folder / "fits" / "fits" / fit, lineage={})
    moments = dict.fromkeys(("gate", "test", "live"), (AS_OF - timedelta(days=3)).isoformat())
    identity = {"data_hash": "d", "training_hash": "t", "ranker": "transformer", "code_version": "c"}
    (folder / "fits" / "lineage.json").write_text(json.dumps({**identity, "boundaries": moments}), encoding="utf-8")
    Registry(folder / "home").add(folder / "fits")
    file = folder / "settings.toml"
    file.write_text(f'home = "{folder / "home"}"\n', encoding="utf-8")
    return file


def ask(settings_file: Path, *words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["portrait", *words, "--settings", str(settings_file)], env={"COLUMNS": "160"})
    return result.exit_code, result.stdout, result.stderr


def test_the_page_holds_every_kind_and_loads_nothing(settings_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "portrait.html"
    code, told, _ = ask(settings_file, "user-00003", "--page", str(page))
    html = page.read_text(encoding="utf-8")
    assert code == 0
    for title in ("Behaviour", "Interest", "Consumption", "Social", "Base", "Risk flags", "Where each fact comes from"):
        assert f">{title}</h2>" in html
    assert html.count('class="c0"') > 50  # the calendar's days and the charts' bars
    for loaded in ("http://", "https://", "<script", "<link"):
        assert loaded not in html
    assert str(page) in told
    shown = html.partition("For data scientists")[0]
    assert "Usual time between visits" in shown
    assert not re.search(r"[a-z]__[a-z]", shown), "a marketer reads plain names"
    assert re.search(r"<td>Campaigns taken up</td><td>[^<]*</td><td>[^<]*</td><td class=n>[0-9]", shown), "with its age"


def test_a_shopper_without_purchases_and_with_chinese_names_has_a_page(settings_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "portrait.html"
    code, told, _ = ask(settings_file, "新客<1>", "--page", str(page))
    html = page.read_text(encoding="utf-8")
    assert code == 0
    for words in ("糕点", "新客<1>", "Searches most for: 月饼礼盒."):
        assert words in told
    for words in ("月饼 &lt;礼盒&gt;", "No purchase yet"):
        assert words in html
    assert "<礼盒>" not in html


def test_without_page_no_file_is_written(settings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--json"]):
        code, told, _ = ask(settings_file, "user-00003", *words)
        assert code == 0
        assert "user-00003" in told
    assert list(tmp_path.iterdir()) == []


def test_json_holds_each_fact_with_its_source_unit_and_age(settings_file: Path) -> None:
    code, told, _ = ask(settings_file, "user-00003", "--json")
    card = json.loads(told)
    assert code == 0
    assert (card["user_id"], card["as_of"], card["num_users"]) == ("user-00003", "2024-07-01T05:00:00Z", 151)
    said = {one["fact"]: one for one in card["statements"]}
    assert said["rhythm__usual_gap_days"]["unit"] == "days"
    assert said["rhythm__usual_gap_days"]["source"] == "purchases"
    assert said["rhythm__usual_gap_days"]["age_days"] == said["rhythm__recency_days"]["value"]
    assert {one["kind"] for one in card["statements"]} == {"base", "behaviour", "interest", "social", "consumption"}
    assert len(card["baskets"]) > 10
    assert card["campaigns"]


def test_a_sequence_encoder_says_what_comes_next_who_is_alike_and_which_version_says_so(
    encoding_shop: Path, tmp_path: Path
) -> None:
    home, page = encoding_shop.parent / "home", tmp_path / "portrait.html"
    before = sorted(home.rglob("*"))
    code, told, _ = ask(encoding_shop, "user-00003", "--json", "--page", str(page))
    found = json.loads(told)["encoding"]
    assert code == 0
    (version,) = Registry(home).versions()
    assert (found["version"], found["ranker"], found["serves"]) == (version, "transformer", False)
    assert found["age_days"] == 3
    assert len(found["vector"]) == 8
    alike = [one["user_id"] for one in found["alike"]]
    assert len(set(alike) - {"user-00003"}) == 5
    # Shoppers without purchases, such as the new one, are compared with nobody.
    assert "新客<1>" not in alike
    assert found["compared_with"] <= 149
    shares = [one["share"] for one in found["likeliest"]]
    assert sorted(shares, reverse=True) == shares
    assert 0 < sum(shares) < 1
    assert found["likeliest"][0]["value"] in page.read_text(encoding="utf-8")
    other = json.loads(ask(encoding_shop, alike[0], "--json")[1])["encoding"]
    assert other["vector"] != found["vector"]
    assert json.loads(ask(encoding_shop, "user-00003", "--json")[1])["encoding"] == found
    told = ask(encoding_shop, "user-00003")[1]
    for words in (version, "does not serve", "3 days before", alike[0], found["likeliest"][0]["value"]):
        assert words in told
    # Nothing is kept, so there is nothing to forget.
    assert sorted(home.rglob("*")) == before


def test_a_portrait_says_plainly_why_no_encoder_was_asked(settings_file: Path, encoding_shop: Path) -> None:
    assert "has not bought anything, so there is no order" in ask(encoding_shop, "新客<1>")[1]
    assert "No version in the registry has an encoder" in " ".join(ask(settings_file, "user-00003")[1].split())
    assert "order of purchases" not in ask(encoding_shop, "user-00003", "--no-encoder")[1]


def test_an_unknown_shopper_is_an_error_that_says_whom_the_features_know(settings_file: Path) -> None:
    code, _, error = ask(settings_file, "nobody")
    assert code == 2
    for words in ("SourceError", "'nobody'", "2024-07-01", "151", "user-00000", "recommender refresh"):
        assert words in " ".join(error.split())


def test_a_forgotten_shopper_is_an_error_that_says_when_and_how_to_let_them_back(settings_file: Path) -> None:
    home = Home(settings_file.parent / "home")
    forgotten.forget(home, ["user-00004"], datetime(2024, 7, 2, 8, 30, tzinfo=UTC))
    try:
        code, _, error = ask(settings_file, "user-00004")
    finally:
        forgotten.allow(home, ["user-00004"])
    assert code == 2
    for words in ("SourceError", "'user-00004' was forgotten on 2024-07-02 08:30 UTC", "forget user-00004 --allow"):
        assert words in " ".join(error.split())


def test_before_any_run_the_error_names_the_command(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'home = "{tmp_path / "home"}"\n', encoding="utf-8")
    code, _, error = ask(file, "user-00003")
    assert code == 2
    for words in ("FeatureStoreError", "recommender run"):
        assert words in error


def test_no_fact_is_a_feature_and_no_feature_is_a_risk(settings_file: Path) -> None:
    store = settings_file.parent / "home" / "feature_store"
    facts = {name for name in pq.read_schema(store / "offline" / "facts.parquet").names if "__" in name}
    read_by_rankers = {name for layout in ServingSchema.load(store).layouts for name in layout}
    assert {"risk__review_bursts_flag", "rhythm__next_days"} <= facts
    assert not facts & read_by_rankers
    assert not any(name.startswith(("risk", "rhythm", "churn", "value")) for name in read_by_rankers)
