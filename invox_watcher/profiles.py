"""Which profile a recording gets: the first one whose conditions it meets, else the default. Pure.

What counts is known at the claim: its folder, its name, and author and device by its own header.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import regex

from invox_watcher.plan import DEFAULT, Plan
from invox_watcher.priority import Priority

# Names are short. A pattern that takes longer backtracks without end, and would stop the intake.
_PATTERN_SECONDS = 0.2
_SLOW = "comparing its name with the pattern takes too long: simplify the pattern"

Attributes = Callable[[], Mapping[str, str]]  # read only if a condition asks for them


@dataclass(frozen=True)
class Conditions:
    """What a recording must be; a condition that is None or empty is met by all."""

    folder: str | None = None  # below the inbox: there, or in a folder below that
    name: str | None = None  # a pattern of the whole name, without the folder
    author: Sequence[str] = ()  # one of these, by its header
    device: Sequence[str] = ()

    @property
    def none(self) -> bool:
        """Whether every recording meets them."""
        return self == Conditions()


@dataclass(frozen=True)
class Profile:
    """A profile: its name, its conditions, and the plan for recordings that meet them."""

    conditions: Conditions
    plan: Plan  # `attributes` are those that the profile sets

    @property
    def name(self) -> str:
        """Its name."""
        return self.plan.profile


class Profiles:
    """The profiles in their order. Without any, no recording gets a plan."""

    def __init__(self, profiles: Sequence[Profile], default: Plan) -> None:
        """`default` is the plan of what matches none of them."""
        self._profiles = tuple(profiles)
        self._default = default

    def __bool__(self) -> bool:
        return bool(self._profiles)

    @property
    def differ_in_priority(self) -> bool:
        """Whether not all recordings are equally urgent."""
        return any(profile.plan.priority is not self._default.priority for profile in self._profiles)

    def plan_for(self, path: str, attributes: Mapping[str, str]) -> Plan | None:
        """The plan of the recording at `path` below the inbox, whose header says `attributes`."""
        if not self._profiles:
            return None
        plan, named = self._match(path, lambda: attributes)
        return dataclasses.replace(plan, attributes={**attributes, **named, **plan.attributes})

    def name_by_path(self, path: str) -> str | None:
        """The name of the profile that any recording of that path gets; None if its header decides, too."""
        for profile in self._profiles:
            conditions = profile.conditions
            by_path = dataclasses.replace(conditions, author=(), device=())
            mismatch = _mismatch(by_path, path, dict)
            if mismatch == _SLOW:  # how long it takes may be another time
                return None
            if not isinstance(mismatch, str):
                return profile.name if by_path == conditions else None
        return DEFAULT if self._profiles else None

    def priority_of(self, path: str, attributes: Attributes) -> Priority:
        """How urgent it will be."""
        return self._match(path, attributes)[0].priority

    def reasons(self, path: str, attributes: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
        """Each profile by name, up to the one that matches, and why it does not match; None for that one."""
        for profile in self._profiles:
            mismatch = _mismatch(profile.conditions, path, lambda: attributes)
            if isinstance(mismatch, str):
                yield profile.name, mismatch
            else:
                yield profile.name, None
                return
        yield DEFAULT, None

    def never_used(self) -> Iterator[tuple[str, str]]:
        """Each profile that no recording can get, and an earlier one that matches all that it matches."""
        for number, later in enumerate(self._profiles):
            covering = (earlier for earlier in self._profiles[:number] if _covers(earlier, later))
            if (found := next(covering, None)) is not None:
                yield later.name, found.name

    def _match(self, path: str, attributes: Attributes) -> tuple[Plan, Mapping[str, str]]:
        """The plan, and the attributes that the name holds."""
        for profile in self._profiles:
            found = _mismatch(profile.conditions, path, attributes)
            if not isinstance(found, str):
                return profile.plan, found
        return self._default, {}


def _mismatch(conditions: Conditions, path: str, attributes: Attributes) -> str | Mapping[str, str]:
    """Why a recording does not meet the conditions; if it does, the attributes that its name holds."""
    folder, _, name = path.rpartition("/")
    if conditions.folder is not None and not _is_within(folder, conditions.folder):
        return f"it is not in the folder {conditions.folder}"
    named: Mapping[str, str] = {}
    if conditions.name is not None:
        try:
            match = regex.fullmatch(conditions.name, _plain(name), timeout=_PATTERN_SECONDS)
        except TimeoutError:
            return _SLOW
        if match is None:
            return f"its name does not match {conditions.name}"
        named = {group: text for group, text in match.groupdict().items() if text}
    for attribute, wanted in (("author", conditions.author), ("device", conditions.device)):
        if wanted:
            found = attributes().get(attribute, "")
            if _folded(found) not in map(_folded, wanted):
                return f"its {attribute} is {found}" if found else f"it does not say its {attribute}"
    return named


def _covers(earlier: Profile, later: Profile) -> bool:
    """Whether every recording that meets the conditions of `later` meets those of `earlier`."""
    first, second = earlier.conditions, later.conditions
    in_folder = first.folder is None or (
        second.folder is not None and _is_within(second.folder, first.folder)
    )
    same_name = first.name is None or first.name == second.name
    return (
        in_folder
        and same_name
        and all(
            not some or (bool(fewer) and {*map(_folded, fewer)} <= {*map(_folded, some)})
            for some, fewer in ((first.author, second.author), (first.device, second.device))
        )
    )


def _is_within(folder: str, above: str) -> bool:
    return f"{_plain(folder)}/".startswith(f"{_plain(above)}/")


def _plain(text: str) -> str:
    """Names from a Mac have their accents apart."""
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return re.sub(r"\s+", " ", _plain(text)).strip().casefold()
