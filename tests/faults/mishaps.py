"""What can befall a clinic in `test_any_order`: faults of the API and the clock, people and senders."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from invox_watcher.sandbox.oddities import Kind
from tests.faults.daemons import CRUCIAL, Death, Fate
from tests.faults.person import NOT_RECORDINGS, How, mp3, recording

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
DAY = 86_400.0

NAMES = [
    "smith.wav",
    "ward/smith.wav",
    "ward/smith.WAV",
    "ward/smith.mp3",
    "ward/night/Smith.wav",
    "ward 3/Dr Müller/dictée.wav",
    "naïve\udcff.wav",
    "line\nbreak \x1b[31m.wav",
    "n" * 251 + ".wav",
    "dot. .wav",
    "smith.json",
    "ward",
]
FOREIGN = [
    *(f"outbox/{name}" for name in ("smith.json", "smith.srt", "smith-2.json", "ward/smith.srt", "ward")),
    *(f"done/{name}" for name in ("smith.wav", "smith-2.wav", "ward/smith.wav", "dot. .wav", "ward")),
    *(f"failed/{name}" for name in ("smith.wav.error.json", "ward/smith.wav.error.json", "ward")),
]
OPERATIONS = ["token", "presign", "upload", "status"]
ILLNESSES: list[dict[str, Any]] = [
    *({"do": "status", "status": status, "retry_after": 0} for status in (429, 500, 502, 503, 504)),
    *({"do": "status", "status": status} for status in (200, 400, 401, 403, 408, 413)),
    {"do": "html"},
    {"do": "redirect", "location": NOWHERE},
    {"do": "reset"},
    {"do": "silence", "seconds": 0.1},
    {"do": "latency", "seconds": 0.1},
    {"do": "drop_reply"},
    {"do": "slow_bytes", "seconds": 0.0005, "part": "all"},
    {"do": "truncate", "declared": "whole"},
    {"do": "truncate", "declared": "half"},
]
ODD = get_args(Kind)
LIES: list[dict[str, Any]] = [
    {"on": "upload", "do": "drop_reply"},
    {"on": "upload", "do": "silence", "seconds": 0.1},
    *({"on": "upload", "do": "status", "status": status} for status in (200, 403, 504)),
    *({"on": "upload", "do": "close_after_bytes", "bytes": count} for count in (0, 1000, 20_000)),
    *({"on": "upload", "do": "status_instead", "status": status} for status in (201, 202, 500, 502)),
    *({"on": "upload", "do": "interim", "status": status} for status in (102, 103)),
    *({"on": on, "do": "interim", "status": 103} for on in ("token", "presign", "status")),
    {"on": "token", "do": "missing_field", "field": "accessToken"},
    {"on": "presign", "do": "missing_field", "field": "presignedUrl"},
    {"on": "presign", "do": "missing_field", "field": "requestId"},
    {"on": "status", "do": "missing_field", "field": "processingStatus"},
    {"on": "status", "do": "missing_field", "field": "transcription"},
    {"on": "status", "do": "unknown_status"},
    *[{"on": "status", "do": "deny_acknowledged"}] * 4,
    *({"on": "status", "do": "odd_result", "kind": kind} for kind in ODD),
    *({"on": "webhook", **fault} for fault in ({"do": "drop"}, {"do": "error_result"})),
    {"on": "webhook", "do": "latency", "seconds": 0.2},
]

HOWS: list[How] = ["copied", "moved in", "renamed at the end", "with an old time"]
names = st.sampled_from(NAMES)
recordings = st.integers(0, 5).map(recording)
slow_ones = st.one_of(recordings, st.integers(0, 2).map(mp3), st.integers(0, 2).map(mp3))
indexes = st.integers(0, 9)
hows = st.sampled_from(HOWS)
arrivals = st.lists(st.tuples(names, recordings, hows), min_size=1, max_size=3)
# Of an instance beside this one: other contents, by which its uploads are known.
their_names = st.sampled_from(["jones.wav", "ward/jones.wav", "ward/Jones.wav"])
few_arrivals = st.lists(
    st.tuples(their_names, st.integers(20, 23).map(recording), hows), min_size=1, max_size=2
)
# The name and the content of a file that is begun; whether it has another name first, is written by this
# machine, and has its final size from the start.
begun = st.tuples(
    names,
    slow_ones,
    st.sampled_from([False, False, True]),
    st.sampled_from([False, False, True]),
    st.booleans(),
)
# A file that is begun, or gone on with.
writing = st.one_of(
    begun.map(lambda arguments: ("begin_writing", *arguments)),
    st.tuples(st.just("go_on_writing"), indexes, st.sampled_from([1, 40, 3000, 5000])),
    st.tuples(st.just("go_on_writing"), indexes, st.sampled_from([1, 40, 3000, 5000])),
)  # fmt: skip
# What a person may do besides bringing recordings: a method of Person, and its arguments.
deeds = st.one_of(
    st.tuples(st.just("drop_something_else"), names, st.sampled_from(NOT_RECORDINGS), hows),
    writing,
    writing,
    st.tuples(st.just("finish_writing"), indexes),
    st.tuples(st.just("touch"), indexes, st.sampled_from(["chmod", "rename", "now", "an old time"])),
    st.tuples(st.just("record_more"), indexes, st.sampled_from([100, 2000])),
    st.tuples(st.just("overwrite"), indexes, recordings),
    st.tuples(st.just("rename"), indexes, names),
    st.tuples(st.just("delete"), indexes),
    st.tuples(st.just("put_back"), indexes, st.booleans()),
    st.tuples(st.just("delete_output"), indexes),
    st.tuples(st.just("put_foreign"), st.sampled_from(FOREIGN)),
    st.tuples(st.just("retry"), st.none() | indexes),
)
an_illness = st.builds(
    lambda on, fault: {"on": on, **fault}, st.sampled_from(OPERATIONS), st.sampled_from(ILLNESSES)
)
an_error = st.just({"on": "status", "do": "error_result"})  # the only one after which it may be paid again
faults = st.builds(
    lambda fault, times: {"times": times, **fault},
    st.one_of(an_illness, st.sampled_from(LIES), an_error),
    st.integers(1, 5),
)
clocks = st.sampled_from(
    [0.0, 0.0, 0.0, 0.0, -DAY, -60.0, 60.0, DAY / 2, DAY, 31 * DAY, 400 * DAY, -400 * DAY, -25 * 365 * DAY]
)
# The crash: never, at a step whatever it is, or (twice as often) at one of those that matter most.
at_any_step = st.builds(Death, st.none(), st.integers(1, 150))
at_a_crucial_one = st.builds(Death, st.sampled_from(CRUCIAL), st.integers(1, 6))
deaths = st.sampled_from([st.none(), at_any_step, at_a_crucial_one, at_a_crucial_one]).flatmap(
    lambda way: way
)
fates = st.builds(Fate, deaths, clocks, clocks, st.integers(0, 30))


# Every call fails, or every one but for a token, or none is made for want of a token. How long is not the
# point, but how often the daemon starts in it.
_AWAY: list[dict[str, Any]] = [
    {"do": "reset"},
    {"do": "silence", "seconds": 0.05},
    *({"do": "status", "status": status} for status in (429, 500, 503)),
]
_NO_TOKEN: list[dict[str, Any]] = [
    {"do": "html"},
    {"do": "redirect", "location": NOWHERE},
    *({"do": "status", "status": status} for status in (400, 401, 403, 404, 415)),
]


def _on(operations: list[str], fault: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"on": operation, "times": None, **fault} for operation in operations]


OUTAGES: list[list[dict[str, Any]]] = [
    [],  # nobody listens
    *(_on(OPERATIONS, fault) for fault in _AWAY),
    *(_on(OPERATIONS[1:], fault) for fault in _AWAY),
    *(_on(["token"], fault) for fault in _NO_TOKEN),
]
starts = st.lists(
    st.tuples(st.sampled_from(["once", "term", "kill", "reload"]), st.floats(0, 0.4)), min_size=2, max_size=4
)
