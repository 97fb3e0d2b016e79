"""docs/privacy.md: voices, words and names are in the files that it lists, and in no other."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for
from tests.kit.webhook_clinic import webhook_clinic

PAGE = Path(__file__).parent.parent.parent / "docs" / "privacy.md"
_ROW = re.compile(r"^\| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \| .*\|$", re.MULTILINE)
WORDS, NAME = b"what was dictated", b"Miller"
_NOT_THE_DAEMONS = {"config.yaml", "hook.sh"}


def of_page() -> dict[str, set[str]]:
    """The places with voices, words and names; and all."""
    found: dict[str, set[str]] = {"voice": set(), "words": set(), "names": set(), "all": set()}
    for where, *answers in _ROW.findall(PAGE.read_text()):
        places = set(re.findall(r"`([^`]+)`", where)) or {where}
        found["all"] |= places
        for kind, answer in zip(("voice", "words", "names"), answers, strict=True):
            found[kind] |= places if answer == "yes" else set()
    return found


def place_of(path: Path, clinic: Clinic) -> str:
    """The page's name for where a file is."""
    first, *rest = path.relative_to(clinic.root).parts
    if first == "state":
        return rest[-1]
    return f"{first}/" if rest else "the log" if path == clinic.log else first


def found_in(clinic: Clinic, scratch: Path, voice: bytes) -> dict[str, set[str]]:
    """The places where a voice, words or names are now."""
    needles = {"voice": voice, "words": WORDS, "names": NAME}
    found: dict[str, set[str]] = {kind: set() for kind in needles}
    for path in clinic.root.rglob("*"):
        if not path.is_file() or path.name in _NOT_THE_DAEMONS | {".invox-watcher.mark"}:
            continue
        place, content = place_of(path, clinic), os.fsencode(path.name) + path.read_bytes()
        assert place in of_page()["all"] | {"journal.sqlite-shm"}, path
        for kind, needle in needles.items():
            if needle in content:
                found[kind].add(place)
    assert list(scratch.rglob("*")) == []
    return found


def test_words_and_names_are_only_where_the_page_says(tmp_path: Path, api: Sandbox) -> None:
    hook = tmp_path / "clinic" / "hook.sh"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    clinic = webhook_clinic(tmp_path / "clinic", api, hooks={"on_done": [str(hook)]})
    hook.write_text('#!/bin/sh\necho "$INVOX_WATCHER_NAME"; cat $INVOX_WATCHER_TRANSCRIPTS; exit 3\n')
    hook.chmod(0o700)
    voice = write_wav(tmp_path / "voice.wav").read_bytes()[2000:2400]
    page, seen = of_page(), {"voice": set[str](), "words": set[str](), "names": set[str]()}

    def look() -> None:
        for kind, places in found_in(clinic, scratch, voice).items():
            assert places <= page[kind], kind
            seen[kind] |= places

    write_wav(clinic.inbox / "ward3" / "Miller.wav")
    look()
    with running(clinic, {"TMPDIR": str(scratch)}):
        wait_for("the hook has failed", lambda: clinic.events("delivery_failed") != [])
        look()
        (clinic.inbox / "Miller, a letter.wav").write_bytes(voice)
        api.fault({"on": "presign", "do": "status", "status": 503, "times": 1000})
        write_wav(clinic.inbox / "Miller again.wav", seconds=3)
        wait_for("one has failed", lambda: clinic.events("failed") != [])
        wait_for("one waits for the API", lambda: clinic.events("step_retry") != [])
        look()
    look()
    assert seen == {kind: page[kind] for kind in seen}
    state = clinic.root / "state"
    for folder in (state, clinic.outbox, clinic.done, clinic.failed, clinic.processing):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Recordings in done/ and failed/ keep the mode that their sender gave them.
    written = [*state.iterdir(), *clinic.outbox.rglob("*.*"), *clinic.failed.rglob("*.json")]
    assert {path for path in written if stat.S_IMODE(path.stat().st_mode) != 0o600} == set()
