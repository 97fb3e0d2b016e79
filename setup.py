"""Gives a build its version, from the commit that is built; everything else is in pyproject.toml.

A tagged commit (`v1.0.0`) is the release: `1.0.0+ge2c28ce`, with the commit. One before it is
`1.0.0.dev20261128160355+ge2c28ce`, with the commit's time (UTC); one after it, until NEXT is raised,
`1.0.0.post20261128160355+ge2c28ce`. So what is built later is always newer, also from a shallow clone, which
has no tags. A source archive has its commit in packaging/commit, by `git archive`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from setuptools import setup

NEXT = "1.0.0"  # the release that is being worked on: raise it after each
VARIABLE = "INVOX_WATCHER_VERSION"  # for a build that knows better

# Commit, time, and the newest tag of a release with the number of commits since: git-log(1), "describe".
_FORMAT = "%h %ct %(describe:tags,match=v[0-9]*)"


def version(root: Path) -> str:
    """The version of the source tree in `root` (PEP 440)."""
    if given := os.environ.get(VARIABLE):
        return given
    if (root / "PKG-INFO").exists():  # a source distribution
        lines = (root / "PKG-INFO").read_text(encoding="utf-8").splitlines()
        return next(line.removeprefix("Version: ") for line in lines if line.startswith("Version: "))
    archived = (root / "packaging" / "commit").read_text(encoding="utf-8").strip()
    if not archived.startswith("$"):
        return version_of(archived)
    if (root / ".git").exists():
        names = _git(root, "diff", "--name-only", "-z", "HEAD").split("\0")
        changed = [root / name for name in names if name]
        commit = _git(root, "log", "-1", f"--format={_FORMAT}")
        return version_of(commit, changed_at=_newest(changed) if changed else None)
    # A copy of the files: it may be of any commit.
    return f"{NEXT}.dev{_newest((root / 'invox_watcher').rglob('*.py'))}+unknown"


def version_of(commit: str, *, changed_at: str | None = None) -> str:
    """The version of a commit, given in _FORMAT; `changed_at`: when files were changed since."""
    name, seconds, tag = [*commit.split(), ""][:3]
    release, _, since = tag.removeprefix("v").partition("-")
    time = changed_at or _stamp(int(seconds))
    local = f"g{name}" + (".changed" if changed_at else "")
    if not release or _numbers(release) < _numbers(NEXT):
        return f"{NEXT}.dev{time}+{local}"
    return f"{release}.post{time}+{local}" if since or changed_at else f"{release}+{local}"


def _newest(files: Iterable[Path]) -> str:
    """When the last of them was changed, and not the time of the build: pip asks twice for the version."""
    present = (file if file.exists() else file.parent for file in files)
    return _stamp(max((path.stat().st_mtime for path in present), default=0))


def _stamp(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d%H%M%S}"


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _git(root: Path, *arguments: str) -> str:
    # The files may belong to another user than to root who builds them.
    command = ["git", "-C", str(root), "-c", f"safe.directory={root}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - git


if __name__ == "__main__":
    setup(version=version(Path(__file__).resolve().parent))
