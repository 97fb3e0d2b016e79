"""FAULTS.md 73: captions of what is written with several code points for each character."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.clinics import QUICK
from tests.kit.captions import parsed
from tests.kit.clinic import Clinic
from tests.kit.clusters import CLUSTERS
from tests.kit.loopback import Peer, serve
from tests.kit.recordings import write_wav


@pytest.mark.parametrize("cluster", [cluster for cluster in CLUSTERS if len(cluster) > 1], ids=ascii)
def test_73_no_caption_is_cut_within_a_character(tmp_path: Path, cluster: str) -> None:
    words = f"{cluster * 50} {cluster * 3}"

    def answer(peer: Peer) -> None:
        while peer.request() is not None:
            reply = {
                "access_token": "t", "presignedUrl": f"{peer.server.url}/put", "requestId": "r",
                "processingStatus": "COMPLETED", "transcription": [{"text": words, "start": 0, "end": 9}],
            }  # fmt: skip
            peer.answer(200, json.dumps(reply).encode())

    with serve(answer) as server:
        clinic = Clinic(tmp_path, server.url, watch=QUICK, outputs={"formats": ["json", "srt", "vtt"]})
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 0
    (cue,) = parsed((clinic.outbox / "smith.srt").read_text("utf-8"))
    assert cue.lines == [cluster * 42, f"{cluster * 8} {cluster * 3}"]
    assert (clinic.outbox / "smith.vtt").read_text("utf-8").splitlines()[3:] == cue.lines
    assert clinic.transcript("smith.json")["text"] == words
