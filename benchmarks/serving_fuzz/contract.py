"""Cases that schemathesis makes from the gateway's own OpenAPI document, right ones and wrong ones."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from benchmarks.serving_fuzz.verdict import Fault
from recommender.events.contract import BELONGS_TO, NEEDS

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
OF_A_GET = 20
"""Cases of a path without a body, all of which are alike."""
EVENTS = "POST /v1/events"
BEYOND_THE_SCHEMA = {*BELONGS_TO, *chain.from_iterable(NEEDS.values()), "event_time", "events"}
"""Fields of an event with rules that a schema does not hold: they depend on the kind, the clock, and settings. A body
that keeps the schema is refused only because of them."""
MOST_FAULTS = 20
"""Of one operation: more show nothing new."""


def cases(url: str, *, token: str | None, number: int, first_seed: int, seen: Counter[str]) -> Iterator[Fault]:
    """Send about `number` cases over all operations, and yield what is wrong. `seen` counts the cases by operation.

    schemathesis holds each answer to the document: status, content type, body, no 5xx beyond those that it names, right
    cases taken and wrong ones refused.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=headers)
    operations = [cast(Any, found).ok() for found in schema.get_all_operations()]
    posts = [one for one in operations if one.method == "post"]
    each = math.ceil(number / len(posts) / len(MODES))
    for operation in operations:
        for mode in MODES:
            if mode is GenerationMode.NEGATIVE and operation not in posts:
                continue  # nothing can be wrong about them
            yield from _cases(operation, mode, each if operation in posts else OF_A_GET, first_seed, headers, seen)


def _cases(
    operation: Any, mode: GenerationMode, most: int, first_seed: int, headers: dict[str, str], seen: Counter[str]
) -> Iterator[Fault]:
    found: list[Fault] = []

    @seed(first_seed)
    @settings(
        max_examples=max(1, most),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        seen[f"{operation.label}, {mode.value}"] += 1
        response = case.call(headers=headers)
        excluded: list[Any] = []
        if operation.label == EVENTS and response.status_code == 422 and _is_beyond_schema(response):
            excluded = [positive_data_acceptance]
        try:
            case.validate_response(response, excluded_checks=excluded)
        except BaseExceptionGroup as group:
            if len(found) < MOST_FAULTS:
                problem = "; ".join(f"{type(one).__name__}: {one}" for one in group.exceptions)
                found.append(
                    Fault(
                        name=f"schemathesis, {operation.label}, {mode.value}",
                        problem=f"status {response.status_code}: {problem}"[:1_000],
                        sent=case.as_curl_command()[:3_000],
                    )
                )

    ask()
    yield from found


def _is_beyond_schema(response: Any) -> bool:
    """Whether a refusal names fields, and only such as have rules beyond the schema (of a batch `events.3.amount`)."""
    fields = [one["field"].rpartition(".")[2] for one in response.json()["fields"]]
    return bool(fields) and set(fields) <= BEYOND_THE_SCHEMA
