"""The sandbox's webhook signatures, opened by the guide's own kind of clients: crypto-js and Java."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.clinic import Clinic, sandbox
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
VECTORS = ROOT / "tests/vectors"
pytestmark = pytest.mark.clients
APP_ID, API_KEY = "app-öf-ward-3", "a key~with a tilde"


def program(name: str, package: str) -> str:
    """The path of a program; the test fails naming the Debian package if it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing. As root, run: apt-get install {package}")
    return found


def crypto_js(layout: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the client in crypto-js."""
    node = program("node", "nodejs")
    folders = [str(Path(sys.prefix, "node/node_modules")), os.environ.get("NODE_PATH", "")]
    environment = os.environ | {"NODE_PATH": os.pathsep.join(filter(None, folders))}
    load = [node, "-e", "require('crypto-js')"]
    if subprocess.run(load, env=environment, capture_output=True, check=False).returncode != 0:
        pytest.fail("crypto-js is missing. `make test-clients` installs it")
    return [node, str(VECTORS / "decrypt.js"), layout], environment


def java(_layout: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the client in Java, which has to be compiled first."""
    program("javac", "default-jdk-headless")
    return [program("java", "default-jdk-headless"), str(VECTORS / "Decrypt.java")], dict(os.environ)


def webhook(folder: Path, **settings: Any) -> dict[str, Any]:
    """The body of the webhook for one recording. Nobody listens where it is sent; it is made all the same."""
    with sandbox(folder / "api", app_id=APP_ID, api_key=API_KEY, **settings) as api:
        clinic = Clinic(
            folder / "clinic",
            api.base_url,
            credentials={"app_id": APP_ID, "api_key": API_KEY, "app_secret": api.settings.app_secret},
            webhook={"enabled": True, "public_url": "http://127.0.0.1:1/webhook"},
            polling={"first_seconds": 0.1, "max_seconds": 0.1},
        )
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 0
        (request,) = api.stats()["requests"]
        wait_for("its webhook is made", lambda: api.stats()["webhooks_sent"] > 0)
        body: dict[str, Any] = json.loads(api.webhook_body(request["id"]))
        return body


@pytest.mark.parametrize(
    ("client", "layout", "app_secret"),
    [
        (crypto_js, "salted", "any length, and not only ASCII: ä€"),
        (crypto_js, "raw", "fifteen chars:ä"),
        (crypto_js, "raw", "sandbox-secret-of-32-characters!"),
        (java, "raw", "sixteen+8 bytes: secret!"),
    ],
)
def test_the_guides_clients_open_the_sandboxs_signatures(
    tmp_path: Path, client: Any, layout: str, app_secret: str
) -> None:
    command, environment = client(layout)
    signature = webhook(tmp_path, app_secret=app_secret, signature_layout=layout)["signature"]
    given = f"{signature}\n{app_secret}\n".encode()
    opened = subprocess.run(command, input=given, env=environment, capture_output=True, check=False)
    assert opened.stdout.decode() == f"{APP_ID}~{API_KEY}", opened.stderr.decode()
