"""What an error means for a job, as a table."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest

from invox_watcher import errors
from invox_watcher.errors import InvoxError
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.processing.faults import RULES, Action, Circumstances, judge, rule_for
from invox_watcher.recording import FileIdentity

UNAVAILABLE = errors.FoldersGoneError("The share is unavailable.")
USUAL = Circumstances(max_attempts=3)
AT_FAULT = Circumstances(3, recording_is_at_fault=True)


def job(state: State = State.WAITING, attempts: int = 0) -> Job:
    now = datetime.now(UTC)
    return Job("1", state, "a.wav", FileIdentity(1, 1, 1, 1), received_at=now, attempts=attempts)


def every_error() -> list[type[InvoxError]]:
    """All that a step can raise; those of targets are for their dispatchers."""
    classes = [value for _name, value in inspect.getmembers(errors, inspect.isclass)]
    return [
        value for value in classes
        if issubclass(value, InvoxError) and not issubclass(value, errors.TargetError)
    ]  # fmt: skip


def test_every_class_of_error_has_a_row() -> None:
    assert len(every_error()) > 20
    assert set(every_error()) <= RULES.keys()


STOP, GO_ON, HOLD, RETRY, FAIL = Action.STOP, Action.GO_ON, Action.HOLD, Action.RETRY, Action.FAIL
TABLE = [
    (errors.StoppedError("x"), STOP),
    (errors.StaleStateError("x"), GO_ON),
    (errors.FencedError("x"), STOP),
    (errors.DiskFullError("x"), HOLD),
    (errors.JournalError("x"), HOLD),
    (errors.StorageError("x"), RETRY),
    (errors.FoldersGoneError("x"), RETRY),
    (errors.FolderBlockedError("x"), RETRY),
    (errors.RecordingVanishedError("x"), Action.CHECK_AGAIN),
    (errors.RecordingChangingError("x"), RETRY),
    (errors.DecoderError("x"), RETRY),
    (errors.RecordingError("x"), FAIL),
    (errors.ApiUnavailableError("x"), RETRY),
    (errors.ApiRefusedError("x"), RETRY),
    (errors.UploadUncertainError("x"), RETRY),
    (errors.ApiRejectedError("x"), FAIL),
    (errors.RequestUnknownError("x"), FAIL),
    (errors.UploadUrlRefusedError("x"), FAIL),
    (errors.TranscriptionFailedError("x"), FAIL),
    (errors.ApiError("x"), FAIL),
    (errors.TemplateError("x", hint=""), RETRY),
    (errors.ConfigurationError("x", []), FAIL),
    (errors.WrongJournalError("x"), HOLD),
    (errors.FolderError("x"), FAIL),
    (errors.NotPermittedError("x"), FAIL),
    (errors.InvoxError("x"), FAIL),
    (OSError("x"), RETRY),
    (KeyError("x"), RETRY),
]


@pytest.mark.parametrize(("error", "action"), TABLE, ids=lambda value: type(value).__name__)
def test_what_follows_the_first_error(error: Exception, action: Action) -> None:
    verdict = judge(error, job(), USUAL)
    assert verdict.action is action
    blameless = (errors.ApiRefusedError, errors.ApiUnavailableError, errors.TemplateError)
    spent = action is RETRY and not isinstance(error, blameless)
    assert verdict.attempts == spent
    if isinstance(error, InvoxError):
        assert verdict.error is error


def test_a_fault_of_the_set_up_uses_up_no_attempt() -> None:
    odd_reply = errors.ApiUnavailableError("x", code="api_protocol")
    for error in (errors.ApiRefusedError("x"), odd_reply):
        verdict = judge(error, job(State.IDENTIFIED, attempts=9), USUAL)
        assert (verdict.action, verdict.attempts) == (RETRY, 9)
    assert judge(odd_reply, job(State.WAITING, attempts=9), AT_FAULT).action is FAIL


def test_the_table_above_is_complete() -> None:
    assert {type(error) for error, _action in TABLE} >= set(every_error())


def test_a_class_without_a_row_has_its_parents() -> None:
    class Child(errors.DiskFullError):
        pass

    assert rule_for(Child("x")) is RULES[errors.DiskFullError]


def test_a_defect_is_named_by_its_place_alone() -> None:
    with pytest.raises(KeyError) as caught:
        {}["smith.wav"]
    verdict = judge(caught.value, job(), USUAL)
    assert verdict.error.code == "internal"
    assert "KeyError" in verdict.error.message
    assert "smith" not in verdict.error.message


# ---- the last attempt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [0, 1])
def test_attempts_below_the_limit_are_retried(attempts: int) -> None:
    verdict = judge(errors.ApiUnavailableError("x"), job(attempts=attempts), AT_FAULT)
    assert (verdict.action, verdict.attempts) == (RETRY, attempts + 1)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_the_last_attempt_fails_unless_only_filing_is_left(state: State) -> None:
    verdict = judge(errors.ApiUnavailableError("x"), job(state, attempts=2), AT_FAULT)
    assert verdict.action is (RETRY if state in (State.DELIVERED, State.FAILING) else FAIL)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_a_disk_fails_only_what_is_not_paid_for(state: State) -> None:
    verdict = judge(errors.StorageError("x"), job(state, attempts=2), USUAL)
    assert verdict.action is (FAIL if state in (State.CLAIMED, State.IDENTIFIED) else RETRY)


# ---- circumstances -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "_action"), TABLE, ids=lambda value: type(value).__name__)
def test_what_an_unavailable_share_may_explain_is_held(error: Exception, _action: Action) -> None:
    verdict = judge(error, job(attempts=9), Circumstances(3, folders_fault=UNAVAILABLE))
    explained = (errors.StorageError, errors.RecordingVanishedError, OSError)
    if isinstance(error, explained) and not isinstance(error, errors.DiskFullError):
        assert (verdict.action, verdict.error, verdict.attempts) == (HOLD, UNAVAILABLE, 9)
    else:
        assert verdict.error is not UNAVAILABLE


def test_a_recording_vanishes_when_it_is_missing_twice() -> None:
    missing = errors.RecordingVanishedError("x")
    assert judge(missing, job(), USUAL).action is Action.CHECK_AGAIN
    assert judge(missing, job(), Circumstances(3, was_missing=True)).action is Action.VANISH


def test_an_outage_spends_no_attempt_before_the_breaker_opens() -> None:
    verdict = judge(errors.ApiUnavailableError("x"), job(attempts=2), USUAL)
    assert (verdict.action, verdict.attempts) == (RETRY, 2)


def test_an_outage_spends_no_attempt() -> None:
    outage = Circumstances(3, api_is_unavailable=True)
    verdict = judge(errors.ApiUnavailableError("x"), job(attempts=2), outage)
    assert (verdict.action, verdict.attempts) == (RETRY, 2)


def test_an_upload_of_unknown_fate_spends_one_in_an_outage() -> None:
    outage = Circumstances(3, api_is_unavailable=True)
    uploading = job(State.UPLOADING, attempts=1)
    assert judge(errors.UploadUncertainError("x"), uploading, outage).attempts == 2
    assert judge(errors.UploadUncertainError("x"), job(State.UPLOADING, attempts=2), outage).action is FAIL


def test_a_template_costs_no_recording_however_often() -> None:
    transcribed = job(State.TRANSCRIBED, attempts=2)
    assert judge(errors.TemplateError("x", hint=""), transcribed, USUAL).action is RETRY


def test_three_errors_say_something_about_the_api() -> None:
    blamed = {kind for kind, rule in RULES.items() if rule.blames_api}
    assert blamed == {errors.ApiUnavailableError, errors.ApiRefusedError, errors.UploadUncertainError}
