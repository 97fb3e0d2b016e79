"""Which failures of calls are an outage, and which are one recording's own."""

from __future__ import annotations

import pytest

from invox_watcher.backoff import Backoff, Breaker
from invox_watcher.errors import ApiRefusedError, ApiUnavailableError
from invox_watcher.processing.api_health import ApiHealth
from invox_watcher.times import utc_now


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
    assert [api.failed("a", unreadable()) for _ in range(20)] == [None] * 20
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
    assert api.failed("a", down()) is not None
    assert not api.blames("a")


def test_one_error_that_several_jobs_share_counts_once() -> None:
    api, shared = health(threshold=2), down()
    assert [api.failed(job, shared) for job in "abc"] == [None, None, None]
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


# ---- what is reported --------------------------------------------------------------------------------------


def test_an_outage_is_reported_at_growing_intervals_and_at_its_end() -> None:
    now = 0.0
    api = ApiHealth(Breaker(Backoff(1, 10), threshold=1), clock=lambda: now)
    began, reported = utc_now(), []
    for second in range(0, 8 * 3600, 10):
        now = float(second)
        if api.delay() == 0 and (outage := api.failed("a", down())):
            reported.append((round(outage.seconds / 60), outage.is_news))
            assert began <= outage.since <= utc_now()
    starts, news = zip(*reported, strict=True)
    assert list(news) == [True] + [False] * (len(news) - 1)
    assert list(starts[:7]) == pytest.approx([0, 1, 2, 4, 8, 16, 32], abs=1)
    assert len(reported) < 16
    ended = api.succeeded("a")
    assert ended is not None
    assert ended.seconds == pytest.approx(8 * 3600, abs=60)
    assert ended.probes > 1000
    assert api.succeeded("a") is None


def test_another_cause_of_an_outage_is_reported_once() -> None:
    now = 0.0
    api = ApiHealth(Breaker(Backoff(1, 1), threshold=1), clock=lambda: now)
    refused = ApiRefusedError("401", code="credentials")
    reported = []
    for error in (down(), refused, down(), refused):
        now += 2
        assert api.delay() == 0
        outage = api.failed("a", error)
        reported.append(outage is not None and outage.is_news)
    assert reported == [True, True, False, False]


# ---- what other hosts say ----------------------------------------------------------------------------------


def test_an_outage_elsewhere_leaves_one_probe() -> None:
    now = 0.0
    api = ApiHealth(Breaker(Backoff(1, 8), threshold=5), clock=lambda: now)
    assert api.hear_outage(down()) is not None
    assert api.hear_outage(down()) is None  # it is known
    assert api.fault is not None
    assert 0 < api.delay() <= 1
    now = 1.0
    assert api.delay() == 0
    assert api.delay() > 0
    assert api.succeeded("a") is not None
    assert api.fault is None


def test_a_recovery_elsewhere_makes_the_probe_due() -> None:
    api = health(threshold=1)
    assert not api.hear_recovery()
    api.failed("a", down())
    assert api.delay() > 0
    assert api.hear_recovery()
    assert api.delay() == 0
    assert api.fault is not None  # until that has succeeded
