"""The daemon's configuration for a running sandbox, as YAML text to print or to write to a file.

It names the configuration's keys itself: a stand-in shares no code with what it stands in front of.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from invox_watcher.sandbox.settings import SandboxSettings


def client_configuration(settings: SandboxSettings, base_url: str, root: Path) -> str:
    """YAML that points the daemon at the sandbox at `base_url`, with its folders under `root`."""
    keys = {
        "api": {"base_url": base_url},
        "credentials": {"app_id": settings.app_id, "api_key": settings.api_key},
        "folders": {"root": str(root)},
        "state": {"directory": str(root / "state")},
        "http": {"listen": None},  # its usual port may be that of a daemon that runs already
    }
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)
