"""A shop wholly in Chinese, from its files to the pages, the endpoint's answers and the exported scores."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from servers import free_ports

from cli.answers import ask
from cli.now import now_is
from cli.options import settings_of
from recommender.allocation.scoring import BulkScorer
from recommender.decision_tables import read_decisions
from recommender.evaluation.document import Evaluation
from recommender.matching.catalogue import Catalogue
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.deployer.endpoint import serve

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-data"
COMMAND = Path(sys.executable).with_name("recommender")
DIGITS = str.maketrans("0123456789", "〇一二三四五六七八九")
WORDS = {
    **{"Pantry": "粮油", "Dairy": "乳品", "Bakery": "烘焙", "Drinks": "饮料"},
    **{"Coffee": "咖啡", "Tea": "茶叶", "Yogurt": "酸奶", "Cheese": "奶酪", "Cereal": "麦片", "Bread": "面包"},
    **{"north": "北京", "south": "广州", "west": "成都", "east": "上海"},
    **{"18-29": "十八至二十九岁", "30-44": "三十至四十四岁", "45-59": "四十五至五十九岁", "60+": "六十岁以上"},
    **{"A": "满减", "B": "折扣券", "C": "会员日"},
    **{"Arbor": "雅柏", "Brightway": "光明", "Cove": "海湾", "Dawn": "晨曦", "Everly": "恒久"},
}
HEADERS = {
    **{"customer": "顾客", "age": "年龄段", "area": "城市", "promotion": "活动", "sku": "商品", "title": "名称"},
    **{"subgroup": "小类", "group": "中类", "department": "部门", "brand": "品牌", "price": "价格", "type": "活动类型"},
    **{"valid_from": "开始", "valid_to": "结束", "ordered_at": "下单时间", "receipt": "小票", "pieces": "数量"},
    **{"paid": "实付", "rebate": "折扣", "voucher_discount": "券抵扣", "redeemed_at": "核销日期"},
}
FILES = {
    **{"customers": "顾客", "products": "商品", "promotions": "活动", "promotion_products": "活动商品"},
    **{"mailings": "推送", "orders": "订单", "redemptions": "核销"},
}
KEPT = ("price", "valid_from", "valid_to", "ordered_at", "pieces", "paid", "rebate", "voucher_discount", "redeemed_at")
MAPPING = """
[source]
name = "中文商店"
time_zone = "Asia/Shanghai"

[tables.users]
file = "顾客.csv"
columns = { user_id = "顾客", age_band = "年龄段", region = "城市" }

[tables.items]
file = "商品.csv"
columns = { item_id = "商品", name = "名称", product_type = "小类", category = "中类", department = "部门", \
brand = "品牌", price = "价格" }

[tables.campaigns]
file = "活动.csv"
columns = { campaign_id = "活动", name = "名称", campaign_type = "活动类型", starts_at = "开始", ends_at = "结束" }
formats = { starts_at = "%d.%m.%Y", ends_at = "%d.%m.%Y" }
constants = { kind = "promotion" }

[tables.campaign_items]
file = "活动商品.csv"
columns = { campaign_id = "活动", item_id = "商品" }

[tables.targets]
file = "推送.csv"
columns = { campaign_id = "活动", user_id = "顾客" }

[tables.events]
file = "订单.csv"
columns = { user_id = "顾客", event_time = "下单时间", item_id = "商品", basket_id = "小票", quantity = "数量", \
amount = "实付", discount = "折扣", coupon_discount = "券抵扣" }
formats = { event_time = "%d.%m.%Y %H:%M" }
constants = { kind = "purchase" }

[tables.participations]
file = "核销.csv"
columns = { campaign_id = "活动", user_id = "顾客", participated_at = "核销日期" }
formats = { participated_at = "%d.%m.%Y" }
"""

pytestmark = pytest.mark.slow


def in_chinese(column: str, value: str) -> str:
    """A value of the example in Chinese: the same value becomes the same words."""
    if column in KEPT or not value:
        return value
    if column in ("customer", "sku", "promotion", "receipt"):
        number = value.rpartition("-")[2].translate(DIGITS)
        return {"customer": "顾客", "sku": "货号", "promotion": "活动", "receipt": "小票"}[column] + number
    if column == "title":
        return "名称：" + value.translate(DIGITS)
    if column == "subgroup":
        return "、".join(in_chinese("group", part.strip()) for part in value.split(","))
    return WORDS.get(value) or "类别" + str(sum(value.encode()) % 97).translate(DIGITS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop = folder / "商店"
    shop.mkdir()
    for name, chinese in FILES.items():
        with (
            (EXAMPLE / f"{name}.csv").open(encoding="utf-8", newline="") as read,
            (shop / f"{chinese}.csv").open("w", encoding="utf-8", newline="") as written,
        ):
            rows = csv.DictReader(read)
            columns = list(rows.fieldnames or ())
            writer = csv.writer(written)
            writer.writerow([HEADERS[column] for column in columns])
            writer.writerows([in_chinese(column, row[column]) for column in columns] for row in rows)
    (shop / "映射.toml").write_text(MAPPING, encoding="utf-8")
    gateway, inference, management, metrics = free_ports(4)
    (folder / "settings.toml").write_text(
        f'[training]\nchallenger = "logistic"\nbaselines = ["popularity"]\nthreads = 1\n'
        f"[serving]\nport = {gateway}\ninference_port = {inference}\nmanagement_port = {management}\n"
        f"metrics_port = {metrics}\ndeadline_ms = 5000\nstore_deadline_ms = 1000\n"
    )
    (folder / "judgement.toml").write_text(
        "[gate]\nbootstrap_samples = 100\nmin_positives = 5\n"
        "[guardrails]\nmin_slice_pairs = 20\nmin_slice_positives = 2\n"
    )
    return folder


def recommender(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    command = [str(COMMAND), *arguments, "--settings", "settings.toml", "--data", "商店/映射.toml"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def ran(folder: Path) -> str:
    return recommender(folder, "run", "--no-ask").stdout


@pytest.fixture(scope="module")
def settings(ran: str, folder: Path) -> Settings:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        chosen = settings_of(Path("settings.toml"), Path("商店/映射.toml"))
    return chosen.updated(home=folder / chosen.home, judgement=folder / "judgement.toml")


@pytest.fixture(scope="module")
def catalogue(settings: Settings) -> Catalogue:
    return Catalogue.load(Home.of(settings).catalogue)


def test_the_home_has_the_mappings_name(settings: Settings) -> None:
    assert settings.home.name.startswith("映射-")


def test_identifiers_names_and_groups_are_the_shops_own(catalogue: Catalogue) -> None:
    assert catalogue.item_ids[1].startswith("货号")
    assert catalogue.item_names[1].startswith("名称：")
    assert set(catalogue.campaign_types) == {"满减", "折扣券", "会员日"}
    for values in catalogue.axis_values:
        assert all(value and not value.isascii() for value in values[1:])


def test_every_department_type_and_city_is_a_feature_of_its_own(settings: Settings) -> None:
    home = Home.of(settings)
    names = set(pq.read_schema(home.feature_store.users).names)
    (schema,) = home.pipeline_artifacts.rglob("features/schema.json")
    stands_for = json.loads(schema.read_text(encoding="utf-8"))["values"]
    in_words = {(entry["column"], entry["value"]): name for name, entry in stands_for.items()}
    assert len(set(stands_for)) == len(stands_for)
    for key in (("region", "北京"), ("region", "广州"), ("region", "成都"), ("campaign_type", "会员日")):
        assert key in in_words
    assert {entry["value"] for entry in stands_for.values() if entry["column"] == "department"} >= {"粮油"}
    assert {name for name in stands_for if not name.startswith("campaign__")} <= names


def test_the_pages_and_the_slices_hold_the_real_words(settings: Settings) -> None:
    published = Home.of(settings).published
    evaluation = Evaluation.read(published.evaluation)
    slices = {(part.axis, part.value) for part in evaluation.gate.slices}
    assert {("campaign_type", "满减"), ("region", "广州"), ("age_band", "六十岁以上")} <= slices
    page = published.evaluation_page.read_text(encoding="utf-8")
    for word in ("满减", "广州", "六十岁以上"):
        assert word in page
    assert "&#" not in page.replace("&#x27;", "")


@pytest.fixture(scope="module")
def answers(settings: Settings) -> Iterator[list[dict[str, Any]]]:
    """Answers for a heavy shopper and an unknown one. The endpoint runs on."""
    scorer = BulkScorer.open(settings.home)
    with serve(now_is(scorer.as_of, settings)):
        yield [ask(settings, user) for user in (scorer.heaviest_and_lightest()[0], "从未见过的顾客")]


def test_the_real_endpoint_answers_in_the_shops_words(
    answers: list[dict[str, Any]], settings: Settings, catalogue: Catalogue
) -> None:
    known, stranger = answers
    assert not known["cold_start"]
    assert stranger["cold_start"]
    assert known["campaigns"]
    for answer in answers:
        for campaign in answer["campaigns"]:
            assert campaign["campaign_id"] in catalogue.campaign_ids
            assert campaign["name"] in catalogue.campaign_names
            assert campaign["reasons"]
            assert {item["name"] for item in campaign["items"]} <= set(catalogue.item_names)
    users = {record["user_id"] for record in read_decisions(settings)}
    assert "从未见过的顾客" in users


def test_an_endpoint_answers_the_same_after_a_clean_of_all_that_is_old(
    answers: list[dict[str, Any]], folder: Path, settings: Settings
) -> None:
    home = Home.of(settings)
    moment = time.time() - 40 * 86_400
    for path in home.root.rglob("*"):
        os.utime(path, (moment, moment), follow_symlinks=False)
    assert list(home.checkpoints.iterdir())
    said = recommender(folder, "clean", "--older-than", "30d", "--yes").stdout
    assert " 0 deleted" not in said
    assert not list(home.checkpoints.iterdir())
    again = ask(settings, BulkScorer.open(settings.home).heaviest_and_lightest()[0])
    assert again["campaigns"] == answers[0]["campaigns"]
    assert again["model_version"] == answers[0]["model_version"]
    assert not again["degraded"]


def test_scores_and_an_audience_are_utf_8_files_that_excel_reads(folder: Path, settings: Settings) -> None:
    recommender(folder, "score", "--output", "分数.csv")
    scorer = BulkScorer.open(settings.home)
    campaign = scorer.catalogue.campaign_ids[scorer.live_campaigns()[-1]]
    shown = recommender(folder, "audience", campaign, "--output", "受众.csv").stdout
    assert campaign in shown
    for name in ("分数.csv", "受众.csv"):
        content = (folder / name).read_bytes()
        assert content.startswith(b"\xef\xbb\xbf")
        rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
        assert {row["user_id"][:2] for row in rows} == {"顾客"}
        assert {row["campaign_id"][:2] for row in rows} == {"活动"}
        assert all(0 <= float(row["score"]) <= 1 for row in rows)
