"""What a log line may hold: no secrets, no words, no names unless asked for, and never more than one line."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import invox_watcher
from invox_watcher import logs
from invox_watcher.events import Event, log
from tests.kit.captured_log import LogStream

PACKAGE = Path(invox_watcher.__file__).parent
URL = "https://bucket.example.com/key?X-Amz-Signature=5ecre7&expires=1"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    log.write_to(None)
    log.subscribe(None)


def logged(
    event: Event = Event.DONE, *, format: str = "json", filenames: str = "hashed", **fields: Any
) -> str:
    """What one event looks like in the log."""
    stream = LogStream()
    logs.configure(format=format, level="debug", filenames=filenames, stream=stream)  # type: ignore[arg-type]
    log.info(event, **fields)
    return stream.getvalue()


# ---- every event has a place -------------------------------------------------------------------------------


@functools.cache
def sources() -> Sequence[tuple[str, ast.Module]]:
    return [
        (str(path.relative_to(PACKAGE)), ast.parse(path.read_text()))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def events_named(tree: ast.AST) -> set[str]:
    """The members named as `Event.X` or `events.Event.X`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] == "Event"
    }


def test_every_event_is_used() -> None:
    used = set().union(*(events_named(tree) for name, tree in sources() if name != "events.py"))
    assert {event.name for event in Event} - used == set()


def test_every_log_call_names_an_event() -> None:
    calls = 0
    for name, tree in sources():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            chosen = {
                target.id
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and events_named(node.value)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and _is_log_call(call):
                    calls += 1
                    first = call.args[0]
                    named = events_named(first) or (isinstance(first, ast.Name) and first.id in chosen)
                    assert named, f"{name}:{call.lineno}: {ast.unparse(call)}"
                    assert len(call.args) == 1, f"{name}:{call.lineno}: an event has fields, not a sentence"
    assert calls > 30


def _is_log_call(call: ast.Call) -> bool:
    return re.fullmatch(r"(events\.)?log\.(debug|info|warning|error)", ast.unparse(call.func)) is not None


# ---- what never appears ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    "field",
    [
        *("token", "authorization", "api_key", "app_secret", "secret", "password", "presigned_url"),
        *("signature", "text", "words", "transcript", "reply", "body"),
    ],
)
def test_a_field_for_secrets_or_words_shows_neither(format: str, field: str) -> None:
    line = logged(format=format, **{field: "5ecre7 words"})
    assert "5ecre7" not in line
    assert f"{field}" in line
    assert "[redacted]" in line


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_shows_no_traceback(format: str) -> None:
    stream = LogStream()
    logs.configure(format=format, stream=stream)  # type: ignore[arg-type]
    try:
        int("5ecre7")
    except ValueError as error:
        log.error(Event.STEP_CRASHED, exc_info=error)
    assert "5ecre7" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    "text",
    [URL, f"could not reach {URL} in time", f"{URL} {URL}", "HTTPS://BUCKET.example.com/key?sig=5ecre7"],
)
def test_a_url_loses_its_query(format: str, text: str) -> None:
    line = logged(format=format, error=text)
    assert "5ecre7" not in line
    assert "bucket.example.com" in line.lower()


def test_names_are_hashed_alike_unless_configured() -> None:
    lines = [json.loads(logged(recording=name)) for name in ("Maria.wav", "Maria.wav", "Juan.wav")]
    hashes = [line["recording"] for line in lines]
    assert hashes[0] == hashes[1] == logs.hashed_name("Maria.wav") != hashes[2]
    assert json.loads(logged(recording="Maria.wav", filenames="plain"))["recording"] == "Maria.wav"
    assert json.loads(logged(recording=None))["recording"] is None


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("field", ["recording", "path", "name", "file"])
def test_no_name_appears_under_any_of_its_fields(format: str, field: str) -> None:
    assert "Maria" not in logged(format=format, **{field: "ward/Maria.wav"})


# ---- one line, whatever is in it ---------------------------------------------------------------------------

HOSTILE = "a\nb\r\x1b[31m\x00\x85\u2028\u202e\u2066\udcff\ufeff ñ語"


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_hostile_name_stays_in_one_line(format: str) -> None:
    line = logged(format=format, recording=HOSTILE, filenames="plain")
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if format == "json":
        assert json.loads(line)["recording"] == HOSTILE
        assert line.isascii()


@given(st.text(st.characters(exclude_categories=()), max_size=40), st.sampled_from(["json", "console"]))
def test_any_text_stays_in_one_line(text: str, format: str) -> None:
    line = logged(format=format, recording=text, error=text, filenames="plain")
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_json_begins_with_time_level_and_event() -> None:
    line = json.loads(logged(Event.CLAIMED, job="20261123t0-1", bytes=3))
    assert list(line) == ["at", "level", "event", "job", "bytes"]
    assert (line["level"], line["event"], line["bytes"]) == ("info", "claimed", 3)
    assert line["at"].endswith("Z")


def test_the_console_is_for_eyes() -> None:
    line = logged(Event.CLAIMED, format="console", job="1", hint="Make room.")
    assert line[10:20].startswith("T")
    assert line[20:].split() == ["info", "claimed", "job=1", 'hint="Make', 'room."']


def test_below_the_level_nothing_is_written() -> None:
    stream = LogStream()
    logs.configure(level="warning", stream=stream)
    log.info(Event.CLAIMED)
    assert stream.getvalue() == ""
    log.warning(Event.FAILED)
    assert json.loads(stream.getvalue())["event"] == "failed"


def test_a_subscriber_gets_every_event_before_redaction() -> None:
    heard = []
    log.subscribe(lambda event, fields: heard.append((event, dict(fields))))
    stream = LogStream()
    logs.configure(level="error", stream=stream)
    log.debug(Event.API_CALLED, call="token", status="200")
    log.error(Event.VANISHED, recording="Maria.wav")
    assert [event for event, _fields in heard] == [Event.API_CALLED, Event.VANISHED]
    assert heard[0][1] == {"call": "token", "status": "200"}
    assert heard[1][1]["recording"] == "Maria.wav"
    assert "Maria" not in stream.getvalue()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["vanished"]
