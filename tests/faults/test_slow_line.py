"""FAULTS.md 67, 72: lines that are slow but never silent, and presigned addresses that look odd."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from invox_watcher.assembly import api_of, client_of
from invox_watcher.config.loading import load
from invox_watcher.sandbox.server import Sandbox
from tests.faults.clinics import QUICK
from tests.faults.evidence import assert_done, retry_codes
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.loopback import Peer, serve, slow_line
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import wait_for

# ---- 67: slow lines ----------------------------------------------------------------------------------------


def port_of(api: Sandbox) -> int:
    return int(api.base_url.rpartition(":")[2])


@pytest.mark.slow
@pytest.mark.parametrize("kilobits_per_second", [80, 64])
def test_67_a_slow_line_that_is_never_silent_is_not_cut(
    tmp_path: Path, api: Sandbox, kilobits_per_second: int
) -> None:
    pace = kilobits_per_second * 125
    with slow_line(port_of(api), pace) as port:
        url = f"http://127.0.0.1:{port}"
        clinic = Clinic(
            tmp_path / "clinic", url, watch=QUICK, api={"read_timeout_seconds": 3, "base_url": url}
        )
        write_sparse_wav(clinic.inbox / "smith.wav", pace * 12)
        assert clinic.once(seconds=60) == 0
    assert_done(clinic, "smith.wav")
    assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (1, 1)
    assert retry_codes(clinic) == []


@pytest.mark.slow
def test_67_several_uploads_share_a_slow_line(tmp_path: Path, api: Sandbox) -> None:
    with slow_line(port_of(api), 8_000) as port:  # each; they only have to be slow together
        url = f"http://127.0.0.1:{port}"
        clinic = Clinic(
            tmp_path / "clinic", url, watch=QUICK, api={"read_timeout_seconds": 4, "base_url": url}
        )
        for number in range(3):
            write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number, seconds=2)
        assert clinic.once(seconds=60) == 0
    assert_done(clinic, "0.wav", "1.wav", "2.wav")
    assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (3, 3)


@pytest.mark.slow
def test_67_a_slow_line_that_falls_silent_is_tried_again(tmp_path: Path, api: Sandbox) -> None:
    with slow_line(port_of(api), 80_000, stalls_after=100_000) as port:
        url = f"http://127.0.0.1:{port}"
        keys = {"read_timeout_seconds": 2, "base_url": url}
        clinic = Clinic(tmp_path / "clinic", url, watch=QUICK, api=keys)
        write_sparse_wav(clinic.inbox / "smith.wav", 1 << 20)
        with running(clinic):
            wait_for("it breaks off", lambda: "upload_interrupted" in retry_codes(clinic), seconds=30)
    assert clinic.files(clinic.failed) == []


# ---- 72: the presigned address -----------------------------------------------------------------------------


def test_72_a_presigned_address_is_used_byte_for_byte(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("odd-url",)) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 0
        assert_done(clinic, "smith.wav")
        assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (1, 1)


@pytest.mark.parametrize(
    "target",
    [
        "/in%2bbox/%7esmith?X-Amz-Signature=%2b%3d%2F",
        "/a/./b/../c//d?e=/../f",
        "/a;v=1/b?c=d;e=f",
        "/a?acl&empty=&last=",
        "/a+b%20c?d=e+f%20g",
        "/%C3%A4%e4?name=%c3%a4.wav",
        "?sig=1",
    ],
)
def test_72_an_address_with_anything_in_it_is_kept(tmp_path: Path, target: str) -> None:
    def answer(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            url = peer.server.url + target
            peer.answer(
                200, json.dumps({"access_token": "t", "presignedUrl": url, "requestId": "r"}).encode()
            )
            if request.line.startswith("PUT"):
                return

    with serve(answer) as server:
        config = load(Clinic(tmp_path, server.url).config)
        client = client_of(config)
        api = api_of(config, client)
        api.upload(api.presign("audio/wav"), io.BytesIO(b"RIFF"), size_bytes=4, mime_type="audio/wav")
        client.close()
    put = next(request.line for request in server.requests if request.line.startswith("PUT"))
    assert put == f"PUT {target if target.startswith('/') else '/' + target} HTTP/1.1"
