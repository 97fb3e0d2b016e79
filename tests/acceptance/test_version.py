"""The version of a build: from the commit, always newer than that of an earlier one."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
_SPEC = importlib.util.spec_from_file_location("setup_script", ROOT / "setup.py")
assert _SPEC is not None
setup_script = importlib.util.module_from_spec(_SPEC)
assert _SPEC.loader is not None
_SPEC.loader.exec_module(setup_script)


@pytest.mark.parametrize(
    ("commit", "version"),
    [
        ("e2c28ce 1795881835", "9.0.0.dev20261128160355+ge2c28ce"),
        ("e2c28ce 1795881835 v9.0.0", "9.0.0+ge2c28ce"),
        ("e2c28ce 1795881835 v9.0.0-3-ge2c28ce", "9.0.0.post20261128160355+ge2c28ce"),
        ("e2c28ce 1795881835 v9.0.1", "9.0.1+ge2c28ce"),
        ("e2c28ce 1795881835 v8.10.0", "9.0.0.dev20261128160355+ge2c28ce"),
    ],
)
def test_the_version_of_a_commit(commit: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_script, "NEXT", "9.0.0")
    assert setup_script.version_of(commit) == version


def test_what_is_built_later_is_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone, from its archive and from files that were changed; a release is in between."""
    monkeypatch.delenv(setup_script.VARIABLE, raising=False)
    clone = tmp_path / "clone"
    (clone / "packaging").mkdir(parents=True)
    (clone / "packaging" / "commit").write_bytes((ROOT / "packaging" / "commit").read_bytes())
    (clone / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    unknown = setup_script.version(clone)
    assert unknown.endswith("+unknown")

    def git(*arguments: str, day: int = 1) -> None:
        date = f"2026-01-{day:02}T12:00:00Z"
        environ = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date, "HOME": str(tmp_path)}
        who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", clone, *who, *arguments], check=True, env=environ, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    versions = [setup_script.version(clone)]
    git("commit", "--allow-empty", "-m", "second", day=2)
    versions.append(setup_script.version(clone))
    git("tag", f"v{setup_script.NEXT}")
    versions.append(setup_script.version(clone))
    git("commit", "--allow-empty", "-m", "third", day=3)
    versions.append(setup_script.version(clone))
    git("archive", f"--output={tmp_path}/archive.tar", "HEAD")
    (clone / ".gitattributes").write_text("\n")
    changed = setup_script.version(clone)

    assert re.fullmatch(r"\d+\.\d+\.\d+\+g[0-9a-f]+", versions[2])
    assert changed.endswith(".changed")
    assert sorted([*versions, changed], key=Version) == [*versions, changed]
    (tmp_path / "archive").mkdir()
    subprocess.run(["tar", "-xf", "archive.tar", "-C", "archive"], cwd=tmp_path, check=True)
    assert setup_script.version(tmp_path / "archive") == versions[3]


def test_a_packager_may_name_the_version(tmp_path: Path) -> None:
    named = subprocess.run(
        [sys.executable, ROOT / "setup.py", "--quiet", "--version"],
        env={setup_script.VARIABLE: "4.5.6"}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert named.stdout.splitlines()[-1] == "4.5.6"
