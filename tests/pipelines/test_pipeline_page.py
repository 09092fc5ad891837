"""docs/pipeline.md says what the code does: its tables are made from the compiled pipeline, the settings and the keys.

`python tests/pipelines/test_pipeline_page.py` writes the tables anew.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.check_settings.derive import Derived
from pipelines.cluster import Cluster
from pipelines.compile import compile_cluster
from recommender.settings import ClusterSettings, Settings, load_settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pipeline.md"
CACHED = {
    "Read the source into tables": "ingest",
    "Validate the tables": "validate_data",
    "Build features as of each decision": "build_features",
    "Build the training set, point in time": "build_training_set",
    "Train a baseline": "",
    "Train the challenger": "train_ranker",
}
"""Cached steps, and the names of their code."""
CHANGES: dict[str, dict[str, Any]] = {
    "`as_of`": {"time": {"as_of": "2017-06-30T00:00"}},
    "`gate_from`, `test_from`, `gate_campaigns`": {"time": {"gate_campaigns": 9}},
    "`source`": {"source": {"dataset": "synthetic"}},
    "`challenger`": {"training": {"challenger": "lightgbm"}},
    "`trials`, `device`": {"training": {"trials": 5}},
    "`canary_share`": {"serving": {"canary_share": 0.3}},
    "a hyperparameter of the challenger": {"training": {"rankers": {"transformer": {"width": 32}}}},
    "`training.seed`": {"training": {"seed": 18}},
    "`looks`": {"looks": {"learn": False}},
    "`features.late_days`": {"features": {"late_days": 7}},
    "`features.engine`, `features.spark`": {"features": {"engine": "spark"}},
    "`resources`": {"resources": {"threads": 1}},
    "`serving`, `decision_log`, `events`, `isolation`, `monitoring`, `retention`, `cluster`": {
        "serving": {"port": 9000},
        "decision_log": {"wait_ms": 50},
        "events": {"most_in_batch": 100},
        "isolation": {"failures": 9},
        "monitoring": {"max_psi": 0.5},
        "retention": {"runs": 30},
        "cluster": {"deadline_hours": 1},
    },
}
"""What a person changes, and an example of it."""


def compiled() -> dict[str, Any]:
    settings = load_settings(ROOT / "k8s" / "base" / "recommender.toml")
    with TemporaryDirectory() as folder:
        file, _ = compile_cluster(settings, Path(folder), cluster=Cluster.of(settings.cluster), namespace="campaigns")
        specification: dict[str, Any] = next(iter(yaml.safe_load_all(file.read_text(encoding="utf-8"))))
    return specification


def parameters(specification: dict[str, Any]) -> Iterator[str]:
    yield "| parameter | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, one in specification["root"]["inputDefinitions"]["parameters"].items():
        default = json.dumps(one["defaultValue"])
        if one["parameterType"] == "NUMBER_INTEGER":
            default = str(int(one["defaultValue"]))
        meaning = re.sub(r"\s+", " ", one["description"])
        yield f"| `{name}` | {one['parameterType']} | `{default}` | {meaning} |"


def boxes(specification: dict[str, Any]) -> dict[str, str]:
    """Title of each step, and whether it is cached."""
    components, found = specification["components"], {}
    for dag in (specification["root"], *components.values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            if "executorLabel" in components[task["componentRef"]["name"]]:
                found[task["taskInfo"]["name"]] = "yes" if task["cachingOptions"].get("enableCache") else "no"
    return found


def keys(settings_of_run: Settings) -> dict[str, Any]:
    """What each cached step is given of the settings, its code, and the source, which stands for the data's hash."""
    derived, data = Derived.of(settings_of_run), settings_of_run.source.model_dump_json()
    settings = dict.fromkeys(CACHED, derived.data_settings)
    settings["Read the source into tables"] = derived.source_settings
    settings["Train the challenger"] = derived.challenger_settings
    of = {step: (settings[step], derived.code.get(code), data) for step, code in CACHED.items()}
    return {**of, "Train a baseline": (derived.baselines, data)}


def reruns() -> Iterator[str]:
    base = Settings()
    before = keys(base)
    yield f"| you change | {' | '.join(CACHED)} |"
    yield f"|---|{'---|' * len(CACHED)}"
    for what, change in CHANGES.items():
        after = keys(base.updated(**change))
        yield f"| {what} | {' | '.join('runs' if before[step] != after[step] else '' for step in CACHED)} |"
    yield f"| the source's content | {' | '.join('runs' for _ in CACHED)} |"


def cluster() -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for name, field in ClusterSettings.model_fields.items():
        yield f"| `cluster.{name}` | {_default(field)} | {field.description or field.annotation.__doc__} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, "") or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def tables() -> dict[str, str]:
    specification = compiled()
    return {
        "parameters": "\n".join(parameters(specification)),
        "reruns": "\n".join(reruns()),
        "cluster": "\n".join(cluster()),
    }


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return tables()


@pytest.mark.parametrize("name", ["parameters", "reruns", "cluster"])
def test_a_table_of_the_page_is_what_the_code_says(made: dict[str, str], name: str) -> None:
    assert made[name] in PAGE.read_text(encoding="utf-8"), f"write it anew: python {Path(__file__).relative_to(ROOT)}"


def test_every_section_of_the_settings_is_in_the_table_of_what_runs_again() -> None:
    # `home` and `store` are fixed when a pipeline is compiled. The judgement is a file that no cached step reads.
    changed = {section for change in CHANGES.values() for section in change}
    assert changed == set(Settings.model_fields) - {"home", "store", "judgement"}


def test_every_box_is_on_the_page_with_whether_it_is_cached() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| (yes|no) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert dict(rows) == boxes(compiled())


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        text = re.sub(rf"(<!-- {name} -->\n\n).*?(?=\n\n)", rf"\g<1>{table}", text, flags=re.S)
    sys.stdout.write(f"{PAGE}: {PAGE.write_text(text, encoding='utf-8')} characters\n")
