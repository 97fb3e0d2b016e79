"""Dictations of real devices, from the source package of pydsscodec: their words come back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import wave
from pathlib import Path

import pytest

from invox_watcher.formats.decoder import Decoder
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.waiting import wait_for

VERSION = "0.1.8"
# Published by Dictate Australia (both encrypted ones, "Password is 1234") and two users of Grundig devices.
DEVICES = ("encrypted_aes128.ds2", "encrypted_aes256.ds2", "grundig_digta7_qp7.ds2", "grundig_sample.dss")

pytestmark = [pytest.mark.slow, pytest.mark.needs("pip")]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's folder of test recordings. pip unpacks it, and leaves it even if it can't build it."""
    folder = tmp_path_factory.mktemp("pydsscodec")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-clean", "--no-deps"]
    subprocess.run(
        [*command, "--no-binary=pydsscodec", f"--dest={folder}", f"pydsscodec=={VERSION}"],
        env=os.environ | {"TMPDIR": str(folder)}, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    return next(folder.rglob("grundig_sample.dss")).parent


def test_real_dictations_come_back_as_their_words(tmp_path: Path, published: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("0000\n1234\n")
    with sandbox(tmp_path / "api", recognizer="speech") as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, intake={"ds2_passwords_file": str(passwords)})
        for name in DEVICES:
            (clinic.inbox / name).write_bytes((published / name).read_bytes())
        with running(clinic):
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == len(DEVICES), seconds=100)
        for name in DEVICES:
            text = clinic.transcript(f"{Path(name).stem}.json")["text"]
            print(f"{name}: {text}")
            assert len(text.split()) > 3, name


def test_a_grundig_dss_is_decoded_as_by_its_maker(tmp_path: Path, published: Path) -> None:
    target = tmp_path / "out.wav"
    with (published / "grundig_sample.dss").open("rb") as source, target.open("wb") as output:
        Decoder().decode(source, output, "wav", threading.Event())
    with wave.open(str(target)) as ours, wave.open(str(published / "grundig_sample_16k.wav")) as theirs:
        assert ours.getparams()[:3] == theirs.getparams()[:3]
        assert ours.readframes(10**6) == theirs.readframes(10**6)
