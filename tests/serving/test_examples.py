"""The examples of docs/serving.md and of the client's README, run as they stand against a running endpoint."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Endpoint

from recommender.decision_tables import read_exposures

ROOT = Path(__file__).parents[2]
PAGES = ("docs/serving.md", "clients/python/README.md")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.M | re.S)
EXAMPLES = [
    (page, number, language, code)
    for page in PAGES
    for number, (language, code) in enumerate(BLOCK.findall((ROOT / page).read_text(encoding="utf-8")))
    if "curl" in code or "recommender_client" in code
]


@pytest.mark.parametrize(
    ("page", "number", "language", "code"), EXAMPLES, ids=[f"{page}-{number}" for page, number, _, _ in EXAMPLES]
)
def test_an_example_runs_as_it_stands(
    endpoint: Endpoint, tmp_path: Path, page: str, number: int, language: str, code: str
) -> None:
    if language == "bash" and shutil.which("curl") is None:
        pytest.skip("this machine has no curl")
    (tmp_path / "token").write_text("not-asked-for")
    serving = endpoint.settings.serving
    for theirs, ours in {
        "http://127.0.0.1:8000": endpoint.deployment.url,
        "http://campaign-gateway.campaigns": endpoint.deployment.url,
        "http://127.0.0.1:8080": f"http://127.0.0.1:{serving.inference_port}",
        "/run/secrets/token": str(tmp_path / "token"),
        "deadline_s=0.3": "deadline_s=20",  # this machine may be busy
    }.items():
        code = code.replace(theirs, ours)
    before = len(list(read_exposures(endpoint.settings)))
    command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    if language == "bash":
        decoder, rest, answers = json.JSONDecoder(), done.stdout, []
        while rest := rest.strip():
            answer, end = decoder.raw_decode(rest)
            answers.append(answer)
            rest = rest[end:]
        assert len(answers) == 2
        assert not any("error" in answer for answer in answers), answers
    assert len(list(read_exposures(endpoint.settings))) == before + ("expose" in code or "exposures" in code)


def test_every_page_has_examples() -> None:
    assert {(page, language) for page, _, language, _ in EXAMPLES} == {
        ("docs/serving.md", "bash"),
        ("docs/serving.md", "python"),
        ("clients/python/README.md", "python"),
    }
