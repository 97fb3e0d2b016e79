"""The daemon's own server, asked as monitoring asks it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import yaml

from tests.kit.clinic import Clinic


def address(clinic: Clinic) -> str:
    """Host and port at which it listens: as configured, or by its log if the kernel chooses the port."""
    configured = str(yaml.safe_load(clinic.config.read_text())["http"]["listen"])
    return str(clinic.events("listening")[-1]["address"]) if configured.endswith(":0") else configured


def get(clinic: Clinic, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    try:
        with urllib.request.urlopen(f"http://{address(clinic)}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def problems(clinic: Clinic) -> dict[str, str]:
    """What /readyz says is wrong; it has to answer 200 if that is nothing, else 503."""
    status, body = get(clinic, "/readyz")
    answer = json.loads(body)
    found: dict[str, str] = answer["problems"]
    assert (status, answer["status"]) == ((503, "not ready") if found else (200, "ready"))
    return found


def samples(text: str) -> dict[str, float]:
    """Every sample of /metrics by its name with labels, as it is written: `name{label="value"}`."""
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line and not line.startswith("#")
    }
