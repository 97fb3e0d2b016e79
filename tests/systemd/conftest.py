"""The image, the wheel, and a machine on which docs/install.md was followed to its first recording."""

from __future__ import annotations

import fcntl
import os
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
# The stand-in API, which starts with the machine like the real one is there with it.
_API = f"""
[Service]
ExecStart=/opt/invox-watcher/bin/invox-watcher sandbox --folder /root/api --port {page.API_PORT}
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


def build_wheel(clone: Path, *, version: str | None = None) -> Path:
    """The project's wheel, built by the page's commands in `clone`, a folder to be made."""
    clone.mkdir()
    for name in ("invox_watcher", "systemd", "docs", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(clone)], check=True)
    if version is not None:
        project = (clone / "pyproject.toml").read_text()
        (clone / "pyproject.toml").write_text(project.replace('version = "', f'version = "{version}" # "', 1))
    [block] = [block for block in page.blocks() if block.kind == "sh clone"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", block.script], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = (clone / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def installed(kitchen: Kitchen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("administrator")
    wheel = build_wheel(folder / "clone")
    smith = write_wav(folder / "smith.wav")
    with kitchen.container(Layer((image(kitchen.cache),))) as container:
        container.put(wheel, f"/root/{wheel.name}")
        container.put(smith, "/root/smith.wav")
        container.run("cat > /etc/systemd/system/api.service", stdin=_API)
        printed = {}
        for section in FIRST_SECTIONS:
            printed[section] = page.follow(container, section)
            if section == "The program":
                container.run("systemctl enable --quiet --now api")
                container.wait_for(f"curl -sf http://127.0.0.1:{page.API_PORT}/sandbox/stats")
        yield Installed(container.freeze(), printed)


@pytest.fixture
def machine(kitchen: Kitchen, installed: Installed) -> Iterator[Container]:
    """A machine of the test's own, booted anew after the first recording, with the daemon running."""
    with kitchen.container(installed.layer) as container:
        container.wait_for("systemctl is-active invox-watcher")
        yield container
