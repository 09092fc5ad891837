"""One file of targets with a label says who was targeted and who took part."""

from pathlib import Path

import pytest
from small_shop import SmallShop, ask

from recommender.datasets.contract import check
from recommender.errors import ContractError, SourceError

TRAIN = """\
id,campaign_id,coupon_id,customer_id,redemption_status
1,spring,7,17,0
2,spring,8,18,1
3,spring,9,18,0
4,spring,9,19,1
"""
COLUMNS = 'columns = { user_id = "customer_id" }\n'


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    shop = SmallShop(tmp_path)
    shop.write("train.csv", TRAIN)
    shop.parts["targets"] = f'file = "train.csv"\nlabel = "redemption_status"\n{COLUMNS}'
    return shop


def test_the_ones_are_participations_at_the_windows_end_and_the_manifest_says_so(shop: SmallShop) -> None:
    tables = shop.read()
    check(tables)
    assert ask(tables, "SELECT user_id FROM targets ORDER BY 1") == [("17",), ("18",), ("19",)]
    found = ask(tables, "SELECT user_id, coupon_id, participated_at::VARCHAR FROM participations ORDER BY 1")
    end = "2024-03-20 22:59:59.999999+00"
    assert found == [("18", "8", end), ("19", "9", end)]
    said = " ".join(tables.manifest["decisions"])
    assert "the end of the campaign's window" in said
    assert "2 of 4 targets" in said
    assert tables.manifest["left_out"]["targets"] == {"another row of the same campaign and user": 1}


def test_a_time_of_targeting_or_of_the_redemption_is_used_where_there_is_one(shop: SmallShop) -> None:
    shop.write("train.csv", "campaign_id,customer_id,sent,used,yes\nspring,17,2024-03-11,,j\nspring,18,2024-03-11,"
               "2024-03-14,j\nspring,19,2024-03-11,,n\n")  # fmt: skip
    shop.parts["targets"] = (
        'file = "train.csv"\nlabel = "yes"\nlabel_values = ["J"]\n'
        'columns = { user_id = "customer_id", targeted_at = "sent", participated_at = "used" }\n'
    )
    found = ask(shop.read(), "SELECT user_id, strftime(participated_at, '%d %H') FROM participations ORDER BY 1")
    assert found == [("17", "10 23"), ("18", "14 22")]


@pytest.mark.parametrize("words", [("ja", "nein"), ("2", "0"), ("redeemed", "ignored")])
def test_words_of_a_label_that_may_mean_either_are_refused_with_their_counts(
    shop: SmallShop, words: tuple[str, str]
) -> None:
    shop.write("train.csv", TRAIN.replace(",1\n", f",{words[0]}\n").replace(",0\n", f",{words[1]}\n"))
    with pytest.raises(ContractError, match="label_values") as caught:
        shop.read()
    assert f"{words[0]!r} (2 rows)" in str(caught.value)


def test_labels_that_are_all_false_leave_participations_empty(shop: SmallShop) -> None:
    shop.write("train.csv", TRAIN.replace(",1\n", ",0\n"))
    tables = shop.read()
    check(tables)
    assert tables.manifest["rows"]["participations"] == 0


def test_a_label_that_is_no_column_or_of_another_table_is_refused(shop: SmallShop) -> None:
    shop.parts["targets"] = shop.parts["targets"].replace("redemption_status", "redemption")
    with pytest.raises(ContractError, match="'redemption_status'"):
        shop.read()
    shop.parts["targets"] = 'file = "targets.csv"\n'
    shop.parts["events"] += 'label = "quantity"\n'
    with pytest.raises(SourceError, match=r"tables\.events\.label"):
        shop.read()


def test_labels_join_a_file_of_participations(shop: SmallShop) -> None:
    shop.write("redeemed.csv", "campaign_id,user_id,participated_at\nspring,17,2024-03-15 10:00\n")
    shop.parts["participations"] = 'file = "redeemed.csv"\n'
    tables = shop.read()
    check(tables)
    assert ask(tables, "SELECT user_id FROM participations ORDER BY 1") == [("17",), ("18",), ("19",)]


def test_campaigns_without_a_file_of_items_cover_all_items_or_those_of_their_events(shop: SmallShop) -> None:
    del shop.parts["campaign_items"]
    shop.write("campaigns.csv", "campaign_id,starts_at,ends_at\nspring,2024-03-10,2024-03-20\n"
               "summer,2024-06-10,2024-06-20\n")  # fmt: skip
    shop.write("events.csv", "user_id,event_time,item_id,campaign_id\n17,2024-03-02 10:00:00,tin,\n"
               "17,2024-03-12 10:00:00,jar,spring\n")  # fmt: skip
    tables = shop.read()
    check(tables)
    assert ask(tables, "SELECT campaign_id, item_id FROM campaign_items ORDER BY 1, 2") == [
        ("spring", "jar"),
        ("summer", "jar"),
        ("summer", "tin"),
    ]
    assert any("campaign_items: no file; 1 of 2" in said for said in tables.manifest["decisions"])


def test_items_that_only_the_events_name_are_listed_once(shop: SmallShop) -> None:
    del shop.parts["campaign_items"]
    tables = shop.read()
    check(tables)
    assert ask(tables, "SELECT item_id FROM items") == [("tin",)]
    assert ask(tables, "SELECT campaign_id, item_id FROM campaign_items") == [("spring", "tin")]
