"""The targets: can each be reached, and does it let us in? Nothing is delivered."""

from __future__ import annotations

from collections.abc import Iterator

from invox_watcher.assembly import targets_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding
from invox_watcher.errors import TargetError


def targets(config: Config) -> Iterator[Finding]:
    """One finding for each target."""
    for name, target in targets_of(config).items():
        try:
            target.probe()
        except TargetError as error:
            yield Finding(f"targets.{name}", "failed", error.message, error.hint, error.exit_status)
        else:
            yield Finding(f"targets.{name}", seen=f"{config.targets[name].kind}: accepts deliveries")
        finally:
            target.close()
