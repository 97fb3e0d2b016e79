"""What `check` says about the attributes that a target needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from invox_watcher.assembly import targets_of
from invox_watcher.diagnostics.check._targets import lacking
from tests.unit.test_check_templates import MAIL, configured, profile

NEEDY = MAIL | {"to": ["{ward}@example.com"], "subject": "{patient_id} {job_id}", "body": "{author}: {text}"}


@pytest.mark.parametrize(
    ("target", "profiles", "problems"),
    [
        (MAIL, [], []),
        (MAIL, [profile(targets=["ehr"])], []),
        (NEEDY, [], ["it needs what recordings have only with a profile: author, patient_id, ward"]),
        (NEEDY, [profile(targets=[])], []),  # it gets nothing
        (
            NEEDY,
            [profile(targets=["ehr"], attributes={"ward": "3"})],
            [
                "it needs what recordings of a do not have: patient_id",
                "it needs what not every recording of a says: author",
            ],
        ),
        (
            NEEDY,
            [
                profile(targets=["ehr"], attributes={"ward": "3"})
                | {"match": {"name": r"(?P<patient_id>\d+)_.*", "author": "SMITH"}},
            ],
            [],
        ),
    ],
    ids=["none", "none with a profile", "no profiles", "not used", "some", "all"],
)
def test_attributes_that_recordings_lack(
    tmp_path: Path, target: Any, profiles: list[Any], problems: list[str]
) -> None:
    config = configured(tmp_path, targets={"ehr": target}, **({"profiles": profiles} if profiles else {}))
    found = list(lacking(config, "ehr", targets_of(config)["ehr"].attributes))
    assert [finding.problem for finding in found] == problems
    assert {finding.level for finding in found} <= {"warning"}
