"""The profiles: can each of them match, and do their targets exist?"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from invox_watcher.assembly import target_names_of
from invox_watcher.config import Config, ProfileSection
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.layout import profiles_of


def profiles(config: Config) -> Iterator[Finding]:
    """Is there one that no recording can get, or a target that is missing?"""
    if not config.profiles:
        return
    problems = [*_unused(config), *_unknown_targets(config)]
    yield from problems
    if not problems:
        yield Finding("profiles", seen=", ".join(profile.name for profile in config.profiles))


def always_known(profile: ProfileSection) -> frozenset[str]:
    """The attributes that each recording with this profile has, whatever its header says."""
    match = profile.match
    of_name = regex.compile(match.name).groupindex if match.name else ()
    of_header = (name for name in ("author", "device") if getattr(match, name))
    return frozenset({*profile.settings.attributes, *of_name, *of_header})


def _unused(config: Config) -> Iterator[Finding]:
    for name, earlier in profiles_of(config).never_used():
        problem = (
            f"no recording can get {name}: {earlier}, which comes before it, matches all that it matches"
        )
        yield warning(
            "profiles", problem, "The first profile that matches counts: put the narrower one first."
        )


def _unknown_targets(config: Config) -> Iterator[Finding]:
    known = target_names_of(config)
    for profile in config.profiles:
        for target in profile.settings.targets:
            if target not in known:
                problem = f"{profile.name} names the target {target}, which is not configured"
                yield warning("profiles", problem, "Correct its name, or configure the target.")
