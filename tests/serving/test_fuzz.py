"""Wrong and hostile requests to the endpoint, some hundred of those of `make fuzz-serving`."""

from conftest import Endpoint

from benchmarks.serving_fuzz.run import run

CASES, REQUESTS = 200, 500


def test_wrong_and_hostile_requests_get_no_wrong_answer_and_leave_no_trace(endpoint: Endpoint) -> None:
    outcome = run(endpoint.settings, users=endpoint.shop.users[:10], cases=CASES, requests=REQUESTS, seed=1)
    assert [(fault.name, fault.problem, fault.sent) for fault in outcome.faults] == []
    assert outcome.cases.total() >= CASES
    assert outcome.sent.total() == REQUESTS
    assert {"gateway 200", "gateway 400", "gateway 422", "torchserve 200", "torchserve 400"} <= outcome.statuses.keys()
