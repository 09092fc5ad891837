"""What a preview says of a mapping that a run would refuse, and the facts that it shares with validation."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from small_shop import EVENTS, SmallShop

import cli.data
from components.validate_data.validation import validate
from components.validate_data.verdict import Verdict
from recommender.datasets import preview_mapping
from recommender.errors import ContractError, ValidationFailed
from recommender.settings import load_settings

RECOMMENDER = Path(sys.executable).parent / "recommender"


def recommender(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RECOMMENDER, *words], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    return SmallShop(tmp_path)


@pytest.fixture
def log_only(shop: SmallShop) -> SmallShop:
    shop.parts = {"events": shop.parts["events"]}
    return shop


def failed_facts(shop: SmallShop) -> dict[str, str]:
    found = preview_mapping(shop.mapping())
    return {fact.name: fact.severity for fact in found.failed}


def test_a_log_without_campaigns_is_shown_with_what_a_run_needs(log_only: SmallShop) -> None:
    found = preview_mapping(log_only.mapping())
    (events,) = found.tables
    assert (events.name, events.rows, events.kinds) == ("events", 3, {"purchase": 3})
    assert found.stops
    assert found.next_items
    with pytest.raises(ContractError) as run:
        log_only.read()
    assert found.missing[0] == str(run.value)
    assert [sentence.split(":")[0] for sentence in found.missing] == ["campaigns", "targets"]


def test_the_verb_shows_the_log_and_ends_with_1_and_what_it_can_be_used_for(log_only: SmallShop) -> None:
    log_only.mapping()
    seen = recommender(log_only.folder, "ingest", "--data", "mapping.toml", "--preview")
    stopped = recommender(log_only.folder, "ingest", "--data", "mapping.toml", "--output", "tables")
    assert (seen.returncode, stopped.returncode) == (1, 1)
    assert "purchase 3" in seen.stdout
    assert stopped.stderr.strip() in seen.stderr
    assert "recommender next-items fit --interactions mapping.toml" in seen.stderr


def test_a_log_that_lacks_the_item_is_not_offered_to_next_item_rankers(log_only: SmallShop) -> None:
    log_only.write("events.csv", "user_id,event_time\n17,2024-03-02 10:00:00\n")
    assert not preview_mapping(log_only.mapping()).next_items


def test_a_column_that_a_run_needs_is_named_with_the_rows_that_can_be_read(shop: SmallShop) -> None:
    shop.write("events.csv", "user_id,item_id\n17,tin\n")
    found = preview_mapping(shop.mapping())
    assert {table.name for table in found.tables} == {"events", "campaigns", "campaign_items", "targets"}
    assert [sentence.split(":")[0] for sentence in found.missing] == ["events.event_time"]


def test_targets_that_cannot_be_derived_stop_a_run_and_the_other_tables_are_shown(shop: SmallShop) -> None:
    shop.write("campaigns.csv", "campaign_id,starts_at,ends_at\nspring,2024-02-01,2024-02-20\n")
    shop.write("redeemed.csv", "campaign_id,user_id,participated_at\n")
    del shop.parts["targets"]
    shop.parts["participations"] = 'file = "redeemed.csv"\n'
    found = preview_mapping(shop.mapping())
    assert [sentence.split(":")[0] for sentence in found.missing] == ["targets"]
    assert {"events", "campaigns", "targets"} <= {table.name for table in found.tables}
    with pytest.raises(ContractError) as run:
        shop.read()
    assert run.value.table == "targets"


def test_what_cannot_be_derived_is_said_below_the_tables(shop: SmallShop) -> None:
    """Starbucks' offers name no item, so participations need a file or a campaign of each event."""
    shop.write("events.csv", "user_id,event_time\n17,2024-03-02 10:00:00\n")
    del shop.parts["campaign_items"]
    found = preview_mapping(shop.mapping())
    with pytest.raises(ContractError) as run:
        shop.read()
    assert found.missing == (str(run.value),)
    assert {"events", "campaigns", "targets"} <= {table.name for table in found.tables}


def test_a_shop_that_fits_has_no_failed_fact(shop: SmallShop) -> None:
    found = preview_mapping(shop.mapping())
    assert (found.missing, found.failed, found.stops) == ((), (), False)
    assert {fact.name.removeprefix("facts.") for fact in found.facts} >= {
        "purchases",
        "targeted_users_known",
        "participations_targeted",
        "campaign_items_seen",
        "campaigns_inside_the_log",
    }


@pytest.mark.parametrize(
    ("file", "text", "fact"),
    [
        ("targets.csv", "campaign_id,user_id\nspring,C-17\nspring,C-18\n", "facts.targeted_users_known"),
        ("campaign_items.csv", "campaign_id,item_id\nspring,900\n", "facts.campaign_items_seen"),
        ("campaigns.csv", "campaign_id,starts_at,ends_at\nspring,2014-03-10,2014-03-20\n", "facts.campaigns_inside"),
    ],
)
def test_tables_that_do_not_belong_together_stop_a_run(shop: SmallShop, file: str, text: str, fact: str) -> None:
    shop.write(file, text)
    assert any(name.startswith(fact) and severity == "critical" for name, severity in failed_facts(shop).items())
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 1
    assert f"[{fact}" in seen.stderr


def test_participations_of_users_who_were_no_target_stop_a_run(shop: SmallShop) -> None:
    shop.parts["participations"] = 'file = "redeemed.csv"\n'
    shop.write("redeemed.csv", "campaign_id,user_id,participated_at\nspring,C-17,2024-03-11\n")
    assert failed_facts(shop)["facts.participations_targeted"] == "critical"


def test_no_purchase_at_all_stops_a_run(shop: SmallShop) -> None:
    shop.parts["events"] = shop.parts["events"].replace("purchase", "view")
    assert failed_facts(shop)["facts.purchases"] == "critical"


def test_a_rule_that_leaves_nearly_all_out_is_a_warning_with_its_share(shop: SmallShop) -> None:
    lines = "".join(f"{user},2024-03-02 10:00:00,tin,1,9.5\n" for user in range(100, 150))
    shop.write("events.csv", (shop.folder / "events.csv").read_text() + lines)
    shop.parts["events"] += "where = \"user_id IN ('17', '18')\"\n"
    assert failed_facts(shop) == {"facts.events.left_out.where: user_id IN ('17', '18')": "warning"}
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 0
    assert "(94.3%)" in seen.stdout
    assert "warning events: " in seen.stdout


def test_the_facts_of_a_preview_are_those_of_validation(shop: SmallShop, tmp_path: Path) -> None:
    shop.write("targets.csv", "campaign_id,user_id\nspring,C-17\nspring,C-18\n")
    found = preview_mapping(shop.mapping())
    tables = shop.read()
    with pytest.raises(ValidationFailed) as stopped:
        validate(tables.folder, tmp_path / "sound", tmp_path / "page.html", as_of=tables.log_end)
    verdict = stopped.value.verdict
    assert isinstance(verdict, Verdict)
    judged = {one.check: one for one in verdict.outcomes if one.check.startswith("facts.")}
    assert {fact.name: (fact.value, fact.holds) for fact in found.facts} == {
        name: (one.value, one.status == "passed") for name, one in judged.items()
    }
    assert {fact.in_short() for fact in found.failed} == {
        one.in_short() for one in judged.values() if one.status == "failed"
    }


def test_a_stated_moment_of_decision_holds_for_the_preview_too(shop: SmallShop) -> None:
    found = preview_mapping(shop.mapping(), as_of=datetime(2024, 3, 1))
    assert {fact.name for fact in found.failed} == {"facts.purchases"}


def guests(shop: SmallShop) -> None:
    shop.write("events.csv", EVENTS + ",2024-03-13 10:00:00,tin,1,9.5\n")
    shop.mapping()


def test_rows_for_which_validation_would_stop_a_run_stop_the_preview_with_its_words(shop: SmallShop) -> None:
    guests(shop)
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    run = recommender(shop.folder, "validate", "--data", "mapping.toml")
    assert (seen.returncode, run.returncode) == (1, 1)
    (line,) = seen.stderr.splitlines()
    assert "events.quarantined_share" in line
    assert line.removeprefix("critical ") in run.stderr
    assert "user_id" in line
    assert "IS NOT NULL" in line, "what to write in the mapping"
    assert "quarantined_share" not in seen.stdout, "said once, as what stops the run"


def test_a_preview_keeps_nothing(shop: SmallShop) -> None:
    guests(shop)
    before = sorted(shop.folder.rglob("*"))
    recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert sorted(shop.folder.rglob("*")) == before


def test_a_log_too_large_to_check_in_seconds_names_the_verb_that_does(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guests(shop)
    monkeypatch.setattr(cli.data, "JUDGED_ROWS", 3)
    settings = load_settings().updated(source={"dataset": "files", "mapping": str(shop.folder / "mapping.toml")})
    cli.data.show_preview(settings)
    assert "recommender validate --data" in capsys.readouterr().out


def test_an_error_has_a_public_name_on_the_terminal(shop: SmallShop) -> None:
    shop.write("events.csv", EVENTS + '17,2024-03-12 12:00:00,"tin')
    shop.mapping()
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 1
    assert seen.stderr.startswith("SourceError: ")
    assert "line 5" in seen.stderr


def test_discounts_below_zero_stop_a_run_with_what_to_write(shop: SmallShop) -> None:
    lines = "".join(f"{user},2024-03-{day} 10:00:00,tin,9.5,-0.6\n" for day in ("02", "12") for user in (17, 18))
    shop.write("events.csv", f"user_id,event_time,item_id,amount,discount\n{lines}")
    shop.mapping()
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 1
    assert "events.discount" in seen.stderr
    assert "scale = { discount = -1 }" in seen.stderr
    shop.parts["events"] += "scale = { discount = -1 }\n"
    shop.mapping()
    assert recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview").returncode == 0
