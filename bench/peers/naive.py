"""What the vendor's guide leads to: read the file, three calls by requests, write the words, move the file.

`python -m bench.peers.naive URL INBOX OUTBOX DONE`, for all that is in the inbox. One session, so
connections are kept. No state: killed, it has lost what it knew.
"""

from __future__ import annotations

import json
import os
import sys
import time

import requests

TYPES = {".wav": "audio/wav", ".mp3": "audio/mp3", ".flac": "audio/flac"}


def main(url: str, inbox: str, outbox: str, done: str) -> None:
    """Transcribe everything, one recording after the other."""
    session = requests.Session()
    token = session.post(
        f"{url}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=("sandbox-app", "sandbox-key"),
        timeout=60,
    )
    bearer = {"Authorization": f"Bearer {token.json()['access_token']}"}
    for folder, _folders, names in os.walk(inbox):
        below = os.path.relpath(folder, inbox)
        os.makedirs(os.path.join(outbox, below), exist_ok=True)
        os.makedirs(os.path.join(done, below), exist_ok=True)
        for name in names:
            path = os.path.join(folder, name)
            stem, suffix = os.path.splitext(name)
            with open(path, "rb") as file:
                recording = file.read()
            kind = TYPES[suffix]
            reply = session.post(
                f"{url}/api/v1/generate-presigned-url", json={"mimeType": kind}, headers=bearer, timeout=60
            )
            reply.raise_for_status()
            presigned = reply.json()
            reply = session.put(
                presigned["presignedUrl"], data=recording, headers={"Content-Type": kind}, timeout=60
            )
            reply.raise_for_status()
            while True:
                reply = session.post(
                    f"{url}/api/v1/get-transcription",
                    json={"requestId": presigned["requestId"]},
                    headers=bearer,
                    timeout=60,
                )
                reply.raise_for_status()
                transcript = reply.json()
                if transcript["processingStatus"] == "COMPLETED":
                    break
                time.sleep(5)
            with open(os.path.join(outbox, below, f"{stem}.json"), "w", encoding="utf-8") as file:
                json.dump(transcript, file)
            os.rename(path, os.path.join(done, below, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
