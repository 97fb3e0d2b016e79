"""The targets: can each be reached, does it let us in, and do recordings have what it needs?

Nothing is delivered.
"""

from __future__ import annotations

from collections.abc import Iterator

from invox_watcher.assembly import targets_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.diagnostics.check._profiles import always_known
from invox_watcher.errors import TargetError
from invox_watcher.outputs import HEADER_ATTRIBUTES

_SET = "Set it in the profile, or take it from the name (docs/profiles.md): deliveries without it fail."


def targets(config: Config) -> Iterator[Finding]:
    """One finding for each target, and one for each problem with the attributes that it needs."""
    for name, target in targets_of(config).items():
        try:
            target.probe()
        except TargetError as error:
            yield Finding(f"targets.{name}", "failed", error.message, error.hint, error.exit_status)
        else:
            yield Finding(f"targets.{name}", seen=f"{config.targets[name].kind}: accepts deliveries")
        finally:
            target.close()
        yield from lacking(config, name, target.attributes)


def lacking(config: Config, target: str, needed: frozenset[str]) -> Iterator[Finding]:
    """What recordings that go to `target` do not have, or perhaps not, so that their delivery would fail."""
    if needed and not config.profiles:
        problem = f"it needs what recordings have only with a profile: {', '.join(sorted(needed))}"
        yield warning(f"targets.{target}", problem, _SET)
    for profile in config.profiles:
        if target not in profile.settings.targets:
            continue
        lacking = needed - always_known(profile)
        in_header = lacking & {*HEADER_ATTRIBUTES}
        if unknown := sorted(lacking - in_header):
            problem = f"it needs what recordings of {profile.name} do not have: {', '.join(unknown)}"
            yield warning(f"targets.{target}", problem, _SET)
        if in_header:
            problem = (
                f"it needs what not every recording of {profile.name} says: {', '.join(sorted(in_header))}"
            )
            yield warning(f"targets.{target}", problem, _SET)
