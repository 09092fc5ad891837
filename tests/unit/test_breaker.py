"""The circuit breaker of a version opens, is probed, and closes."""

from recommender.settings import IsolationSettings
from serving.gateway.breaker import LEAST_REQUESTS, Breaker

LIMITS = IsolationSettings(failures=3, failure_share=0.5, window_s=10, pause_s=1, canary_sick_s=20)


def breaker() -> Breaker:
    return Breaker(LIMITS, patience_s=0.25)


def opened(at_s: float) -> Breaker:
    one = breaker()
    for _ in range(LIMITS.failures):
        one.failed(at_s, "away")
    assert one.state == "open"
    return one


def test_it_opens_after_failures_in_a_row_and_an_answer_between_them_begins_a_new_row() -> None:
    one = breaker()
    one.failed(0, "away")
    one.failed(0, "away")
    one.succeeded(0)
    one.failed(0, "away")
    one.failed(0, "away")
    assert (one.state, one.sick_since_s) == ("closed", None)
    one.failed(0.5, "away again")
    assert (one.state, one.sick_since_s, one.problem) == ("open", 0.5, "away again")


def test_late_answers_open_it_only_once_they_have_come_for_as_long_as_its_patience() -> None:
    one = breaker()
    for _ in range(50):
        one.failed(7.0, "late", late=True)
        one.succeeded(7.0)  # a busy moment: the share of failures stays at a half
        one.succeeded(7.0)
    for _ in range(10):
        one.failed(7.1, "late", late=True)
    assert one.state == "closed"
    one.failed(7.36, "late", late=True)
    assert one.state == "open"


def test_it_opens_at_a_share_of_failures_that_never_come_in_a_row() -> None:
    one = breaker()
    for turn in range(LEAST_REQUESTS // 2 - 1):
        one.succeeded(turn * 0.1)
        one.failed(turn * 0.1, "error")
    assert one.state == "closed", "fewer requests than mean anything"
    one.succeeded(2)
    one.failed(2, "error")
    assert one.state == "open"


def test_failures_that_left_the_window_do_not_count() -> None:
    one = breaker()
    for turn in range(LEAST_REQUESTS):
        one.failed(turn * 0.001, "error")
        one.succeeded(turn * 0.001)
        one.succeeded(turn * 0.001)
    for turn in range(LEAST_REQUESTS):
        one.succeeded(11 + turn * 0.01)
    one.failed(11.5, "error")
    assert one.state == "closed"


def test_a_probe_is_due_after_the_pause_and_closes_it_or_opens_it_again() -> None:
    one = opened(100)
    assert not one.probe_is_due(100.9)
    assert one.probe_is_due(101)
    one.probing()
    assert (one.state, one.probe_is_due(105)) == ("half_open", False)
    one.probed(102, "no answer")
    assert (one.state, one.problem, one.probe_is_due(102.9), one.probe_is_due(103)) == (
        "open",
        "no answer",
        False,
        True,
    )
    one.probing()
    one.probed(103, None)
    assert (one.state, one.answered) == ("closed", True)
    one.failed(103, "once")
    assert one.state == "closed", "the row from before it opened is over"


def test_requests_that_were_under_way_when_it_opened_change_nothing() -> None:
    one = opened(100)
    one.failed(100.1, "late", late=True)
    one.succeeded(100.2)
    assert (one.state, one.problem) == ("open", "away")


def test_a_version_stays_sick_until_it_was_well_for_a_whole_window() -> None:
    one = opened(100)
    one.probing()
    one.probed(101, None)
    one.tick(110.9)
    assert one.sick_since_s == 100
    for _ in range(LIMITS.failures):
        one.failed(110.9, "away")  # it answers probes and fails requests
    one.probing()
    one.probed(112, None)
    one.tick(121.9)
    assert one.sick_since_s == 100
    one.tick(122)
    assert one.sick_since_s is None


def test_an_answered_probe_ends_no_row_of_failed_requests() -> None:
    one = breaker()
    for second in range(LIMITS.failures):
        one.probed(second, None)
        one.failed(second, "error")
    assert one.state == "open"


def test_probes_without_an_answer_open_it_where_there_is_no_traffic() -> None:
    one = breaker()
    for second in range(LIMITS.failures):
        one.probed(second, "no answer")
    assert one.state == "open"
