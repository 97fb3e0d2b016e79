"""The image, the wheel, and a machine on which docs/install.md was followed to its first recording."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.recordings import write_wav
from tests.systemd import page
from tests.systemd.container import Container, Layer, clear, image, wheelhouse

ROOT = Path(__file__).parent.parent.parent
CACHE_VARIABLE = "INVOX_WATCHER_SYSTEMD_CACHE"
ON_A_MACHINE = [
    pytest.mark.systemd,
    pytest.mark.needs("root", "debootstrap", "systemd-nspawn"),
    pytest.mark.timeout(1200),
]
FIRST_SECTIONS = page.sections()[: page.sections().index("The first recording") + 1]
FIRST_VERSION = "1.0.0+g0123abc"
# What a clone has.
_SOURCES = (
    *("invox_watcher", "systemd", "docs", "packaging", "Makefile", "pyproject.toml", "setup.py"),
    *("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "config.example.yaml"),
)
# The stand-in API, which starts with the machine like the real one is there with it.
_API = f"""
[Service]
ExecStart=/root/program/bin/python -m invox_watcher sandbox --folder /root/api --port {page.API_PORT}
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Kitchen:
    """What every container is made from."""

    cache: Path
    wheels: Path

    def container(self, layer: Layer) -> Container:
        """A container that is not booted yet."""
        return Container(layer, cache=self.cache, wheels=self.wheels)


@dataclass(frozen=True)
class Installed:
    """A machine to start from, and what every section's commands printed on the way there."""

    layer: Layer
    printed: dict[str, str]


@pytest.fixture(scope="session")
def _can_boot() -> None:
    """Fail, and never skip, where the machine can't do this."""
    assert os.geteuid() == 0, "these tests boot a Debian: run `make test-systemd` as root"
    for program in ("debootstrap", "systemd-nspawn"):
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found, f"these tests need {program}: `make test-systemd` installs it"


@pytest.fixture(scope="session")
def kitchen(_can_boot: None) -> Iterator[Kitchen]:
    """The folder below which everything lies, by default in .venv, with what is downloaded only once."""
    cache = Path(os.environ.get(CACHE_VARIABLE) or ROOT / ".venv" / "systemd").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of these tests is waited for
        clear(cache)
        yield Kitchen(cache, wheelhouse(cache, ROOT))


def _in_clone(section: str, clone: Path, version: str) -> None:
    """Give the page's commands for a clone in one of that version, a folder to be made."""
    clone.mkdir()
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in _SOURCES), str(clone)], check=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", page.in_clone(section)], cwd=clone, check=False, capture_output=True, text=True,
        env=os.environ | {"PATH": path, "INVOX_WATCHER_VERSION": version},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def build_wheel(clone: Path, *, version: str) -> Path:
    """The project's wheel, built by the page's commands in `clone`, a folder to be made."""
    _in_clone("Without the package", clone, version)
    [wheel] = (clone / "dist").glob("*.whl")
    return wheel


def newer(package: Path, folder: Path, version: str) -> Path:
    """The same package as a later version, in a folder to be made; quicker than to build it."""
    root = folder / "root"
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    control = root / "DEBIAN" / "control"
    control.write_text(re.sub("^Version: .*", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    [metadata] = root.glob("opt/invox-watcher/lib/*/site-packages/invox_watcher-*.dist-info/METADATA")
    metadata.write_text(
        re.sub("^Version: .*", f"Version: {version}", metadata.read_text(), flags=re.MULTILINE)
    )
    metadata.parent.rename(metadata.parent.with_name(f"invox_watcher-{version}.dist-info"))
    made = folder / f"invox-watcher_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--build", root, made], check=True, capture_output=True)
    return made


def start_api(container: Container) -> None:
    """Run the stand-in API from a copy of the program that is installed, which goes and comes."""
    container.run("cp -a /opt/invox-watcher /root/program")
    container.run("cat > /etc/systemd/system/api.service", stdin=_API)
    container.run("systemctl enable --quiet --now api")
    container.wait_for(f"curl -sf http://127.0.0.1:{page.API_PORT}/sandbox/stats")


@pytest.fixture(scope="session")
def package(kitchen: Kitchen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built by the page's commands."""
    clone = tmp_path_factory.mktemp("builder") / "clone"
    _in_clone("The package", clone, FIRST_VERSION)
    [built] = (clone / "dist").glob("*.deb")
    return built


@pytest.fixture(scope="session")
def installed(
    kitchen: Kitchen, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    smith = write_wav(tmp_path_factory.mktemp("administrator") / "smith.wav")
    with kitchen.container(Layer((image(kitchen.cache),))) as container:
        container.put(package, f"/root/{package.name}")
        container.put(smith, "/root/smith.wav")
        printed = {}
        for section in FIRST_SECTIONS:
            printed[section] = page.follow(container, section)
            if section == "The package":
                start_api(container)
        yield Installed(container.freeze(), printed)


@pytest.fixture
def machine(kitchen: Kitchen, installed: Installed) -> Iterator[Container]:
    """A machine of the test's own, booted anew after the first recording, with the daemon running."""
    with kitchen.container(installed.layer) as container:
        container.wait_for("systemctl is-active invox-watcher")
        yield container
