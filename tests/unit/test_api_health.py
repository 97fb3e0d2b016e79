"""Which failures of calls are an outage, and which are one recording's own."""

from __future__ import annotations

import pytest

from invox_watcher.errors import ApiRefusedError, ApiUnavailableError
from invox_watcher.processing.api_health import ApiHealth
from invox_watcher.processing.backoff import Backoff, Breaker


def health(threshold: int = 5) -> ApiHealth:
    return ApiHealth(Breaker(Backoff(1, 8), threshold=threshold), clock=lambda: 0.0)


def down() -> ApiUnavailableError:
    return ApiUnavailableError("connection refused", code="network")


def unreadable() -> ApiUnavailableError:
    return ApiUnavailableError("not JSON", code="api_protocol")


def test_a_lone_recording_is_not_blamed_for_an_outage() -> None:
    api = health(threshold=100)
    for _ in range(50):
        api.failed("a", down())
        assert not api.blames("a")


def test_a_recording_is_blamed_if_others_succeed_between() -> None:
    api = health()
    api.failed("a", down())
    assert not api.blames("a")
    api.succeeded("b")
    api.failed("a", down())
    assert api.blames("a")


def test_its_own_success_clears_it() -> None:
    api = health()
    api.failed("a", down())
    api.succeeded("a")
    api.failed("a", down())
    assert not api.blames("a")


def test_the_first_failure_after_a_start_blames_no_one() -> None:
    api = health()
    api.succeeded("b")
    api.failed("a", down())
    assert not api.blames("a")


def test_unreadable_replies_of_one_recording_open_no_breaker() -> None:
    api = health(threshold=2)
    assert [api.failed("a", unreadable()) for _ in range(20)] == [False] * 20
    assert api.blames("a")
    assert api.fault is None


def test_unreadable_replies_of_different_ones_are_an_outage() -> None:
    api = health(threshold=2)
    opened = [api.failed(job, unreadable()) for job in ("a", "b", "a")]
    assert opened[-1]
    assert not api.blames("a")
    assert api.fault is not None


def test_while_the_breaker_is_open_none_is_blamed() -> None:
    api = health(threshold=1)
    api.failed("a", down())
    api.succeeded("b")
    assert api.failed("a", down())
    assert not api.blames("a")


def test_one_error_that_several_jobs_share_counts_once() -> None:
    api, shared = health(threshold=2), down()
    assert [api.failed(job, shared) for job in "abc"] == [False, False, False]
    assert api.failed("d", down())


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_forgotten_job_starts_again(forgotten: bool) -> None:
    api = health()
    api.failed("a", down())
    api.succeeded("b")
    if forgotten:
        api.forget("a")
    api.failed("a", down())
    assert api.blames("a") is not forgotten


def test_a_refusal_opens_at_once() -> None:
    api = health()
    assert api.failed("a", ApiRefusedError("401"))
