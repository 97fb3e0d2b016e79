"""The least that Python does for a recording: http.client on one connection, no check, no library.

`python -m bench.peers.floor URL INBOX OUTBOX DONE`, for WAVs that lie in the inbox itself.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from typing import Any


def main(url: str, inbox: str, outbox: str, done: str) -> None:
    """Transcribe everything, one recording after the other."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def call(method: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
        connection.request(method, path, body, headers)
        return connection.getresponse().read()

    token = json.loads(call("POST", "/oauth/token", "", {}))["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    for name in os.listdir(inbox):
        path = os.path.join(inbox, name)
        with open(path, "rb") as file:
            recording = file.read()
        presigned = json.loads(
            call("POST", "/api/v1/generate-presigned-url", b'{"mimeType":"audio/wav"}', bearer)
        )
        call("PUT", presigned["presignedUrl"], recording, {"Content-Type": "audio/wav"})
        request = json.dumps({"requestId": presigned["requestId"]})
        words = call("POST", "/api/v1/get-transcription", request, bearer)
        with open(os.path.join(outbox, name[:-4] + ".json"), "wb") as output:
            output.write(words)
        os.rename(path, os.path.join(done, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
