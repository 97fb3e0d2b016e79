"""The daemon's configuration for a running sandbox, as YAML text to print or to write to a file.

It names the configuration's keys itself: a stand-in shares no code with what it stands in front of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from invox_watcher.sandbox.settings import SandboxSettings


def client_configuration(
    settings: SandboxSettings,
    base_url: str,
    root: Path,
    *,
    listen: str | None = None,
    webhook_url: str | None = None,
) -> str:
    """YAML that points the daemon at the sandbox at `base_url`, with its folders under `root`.

    It has no key that only the sandbox's reading needs: finding those is what a reading is for.

    The daemon listens on `listen`, an address and port; None for not at all, because its usual port may be
    that of a daemon that runs already. With `webhook_url` it has its results sent there.
    """
    credentials = {"app_id": settings.app_id, "api_key": settings.api_key}
    keys: dict[str, Any] = {
        "api": {"base_url": base_url + settings.reading.stage},
        "credentials": credentials,
        "folders": {"root": str(root)},
        "state": {"directory": str(root / "state")},
        "logging": {"format": "console", "filenames": "plain"},  # for a person who tries things
        "http": {"listen": listen},
    }
    if webhook_url is not None:
        credentials["app_secret"] = settings.app_secret
        keys["webhook"] = {"enabled": True, "public_url": webhook_url}
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)
