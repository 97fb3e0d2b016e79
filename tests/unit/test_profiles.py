"""Which profile a recording gets, and which one no recording can get."""

from __future__ import annotations

import time

import pytest

from invox_watcher.plan import DEFAULT, Plan
from invox_watcher.priority import Priority
from invox_watcher.profiles import Conditions, Profile, Profiles

OTHERS = Plan(DEFAULT, ("json", "srt"))


def profiles(**conditions: Conditions) -> Profiles:
    return Profiles([Profile(one, Plan(name, ("json",))) for name, one in conditions.items()], OTHERS)


@pytest.mark.parametrize(
    ("conditions", "path", "attributes", "reason"),
    [
        (Conditions(), "a.wav", {}, None),
        (Conditions(folder="ward3"), "ward3/a.wav", {}, None),
        (Conditions(folder="ward3"), "ward3/stat/a.wav", {}, None),
        (Conditions(folder="ward3"), "ward33/a.wav", {}, "it is not in the folder ward3"),
        (Conditions(folder="ward3"), "a.wav", {}, "it is not in the folder ward3"),
        (Conditions(folder="ward3/stat"), "ward3/a.wav", {}, "it is not in the folder ward3/stat"),
        (Conditions(folder="Köln"), "Ko\u0308ln/a.wav", {}, None),  # as a Mac writes it
        (Conditions(name=r"S\d+\.wav"), "x/S12.wav", {}, None),
        (Conditions(name=r"S\d+\.wav"), "S12.wav.wav", {}, r"its name does not match S\d+\.wav"),
        (Conditions(name=r"(?i)s.*"), "SMITH.wav", {}, None),
        (Conditions(name=r"\w+\.wav"), "\udcff.wav", {}, r"its name does not match \w+\.wav"),
        (Conditions(author=["Smith"]), "a.wav", {"author": " SMITH "}, None),
        (Conditions(author=["Jones", "Smith"]), "a.wav", {"author": "smith"}, None),
        (Conditions(author=["Smith"]), "a.wav", {"author": "Jones"}, "its author is Jones"),
        (Conditions(author=["Smith"]), "a.wav", {}, "it does not say its author"),
        (Conditions(device=["DS-9500"]), "a.wav", {"device": "ds-9500"}, None),
        (Conditions(device=["DS-9500"]), "a.wav", {}, "it does not say its device"),
        (Conditions(folder="x", author=["a"]), "x/a.wav", {"author": "b"}, "its author is b"),
    ],
)
def test_what_meets_the_conditions(
    conditions: Conditions, path: str, attributes: dict[str, str], reason: str | None
) -> None:
    found = profiles(one=conditions)
    expected = [("one", None)] if reason is None else [("one", reason), (DEFAULT, None)]
    assert list(found.reasons(path, attributes)) == expected
    plan = found.plan_for(path, attributes)
    assert plan is not None
    assert plan.profile == ("one" if reason is None else DEFAULT)


def test_the_first_that_matches_counts() -> None:
    found = profiles(stat=Conditions(folder="stat"), all=Conditions(), never=Conditions())
    assert list(found.reasons("ward/a.wav", {})) == [("stat", "it is not in the folder stat"), ("all", None)]
    assert list(found.reasons("stat/a.wav", {})) == [("stat", None)]


def test_without_profiles_there_is_no_plan() -> None:
    none = Profiles([], OTHERS)
    assert none.plan_for("a.wav", {"author": "SMITH"}) is None
    assert not none
    assert not none.differ_in_priority


def test_attributes_of_header_name_and_profile() -> None:
    plan = Plan("one", ("json",), attributes={"department": "cardiology", "work_type": "letter"})
    name = r"(?P<author>[A-Z]+)_(?P<work_type>\d+)(?P<rest>x)?\.wav"
    found = Profiles([Profile(Conditions(name=name), plan)], OTHERS).plan_for(
        "SMITH_02.wav", {"author": "a device's", "device": "DS-9500"}
    )
    assert found is not None
    assert found.attributes == {
        "author": "SMITH",
        "device": "DS-9500",
        "work_type": "letter",
        "department": "cardiology",
    }


def test_the_header_is_read_only_for_a_condition_on_it() -> None:
    stat = Plan("stat", (), priority=Priority.STAT)
    found = Profiles(
        [Profile(Conditions(folder="stat"), stat), Profile(Conditions(author=["Smith"]), stat)], OTHERS
    )
    read: list[str] = []

    def attributes() -> dict[str, str]:
        read.append("header")
        return {"author": "Smith"}

    assert found.priority_of("stat/a.wav", attributes) is Priority.STAT
    assert read == []
    assert found.priority_of("a.wav", attributes) is Priority.STAT
    assert read == ["header"]
    assert found.differ_in_priority


def test_a_pattern_that_never_ends_is_given_up() -> None:
    began = time.monotonic()
    found = profiles(slow=Conditions(name=r"(?:a+)+b|(?:a|aa)+c"))
    (_name, reason), _default = found.reasons("a" * 200 + ".wav", {})
    assert reason is not None
    assert time.monotonic() - began < 30


IN_WARD, SMITHS = Conditions(folder="ward3"), Conditions(author=["Smith", "Jones"])


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        (Conditions(), IN_WARD, True),
        (IN_WARD, Conditions(), False),
        (IN_WARD, Conditions(folder="ward3/stat"), True),
        (Conditions(folder="ward3/stat"), IN_WARD, False),
        (IN_WARD, Conditions(folder="ward3", author=["Smith"]), True),
        (SMITHS, Conditions(author=["SMITH"]), True),
        (Conditions(author=["Smith"]), SMITHS, False),
        (SMITHS, Conditions(name="a"), False),
        (Conditions(name="a"), Conditions(name="a", device=["x"]), True),
        (Conditions(name="a"), Conditions(name="b"), False),
    ],
)
def test_a_profile_that_no_recording_can_get(earlier: Conditions, later: Conditions, covered: bool) -> None:
    found = profiles(first=earlier, second=later)
    assert list(found.never_used()) == ([("second", "first")] if covered else [])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("ward3/a.wav", "ward3"),
        ("ward4/a.wav", None),  # Smith's is another profile's
        ("ward4/S1.wav", None),
        ("S1.wav", "by_name"),
        ("a.wav", None),  # the device decides
        ("x" * 40 + "!", None),  # comparing it takes too long, this time
    ],
)
def test_a_path_tells_the_profile_unless_a_header_decides(path: str, name: str | None) -> None:
    found = profiles(
        ward3=Conditions(folder="ward3"),
        smith4=Conditions(folder="ward4", author=["Smith"]),
        ward4=Conditions(folder="ward4"),
        slow=Conditions(name="(x+x+)+y"),
        by_name=Conditions(name=r"S\d\.wav"),
        device=Conditions(device=["DS-9500"]),
    )
    assert found.name_by_path(path) == name
    assert profiles(ward3=Conditions(folder="ward3")).name_by_path("a.wav") == DEFAULT
    assert profiles().name_by_path(path) is None
