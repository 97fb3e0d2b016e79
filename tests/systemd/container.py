"""A Debian with a systemd of its own: an image made once, and containers on throw-away layers above it.

systemd-nspawn runs in a mount and a process namespace of its own, whose first process is killed with the one
that started it: nothing is left mounted or running, however a test ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.processes import children

RELEASE = "bookworm"
PYTHON = "3.11"  # bookworm's
PACKAGES = (
    *("systemd-sysv", "dbus", "procps", "curl", "strace"),
    *("python3-venv", "pipx", "samba", "smbclient", "logrotate"),
)
WHEELHOUSE = "/wheelhouse"

# What an administrator has, who is root and whose pip finds all packages in a folder.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": WHEELHOUSE,
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
# The container's control groups: systemd makes them, where it runs on the host as well; otherwise we do.
_HOST_HAS_SYSTEMD = Path("/run/systemd/system").is_dir()
_HIERARCHIES = [
    path
    for path in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"))
    if not _HOST_HAS_SYSTEMD and (path / "cgroup.procs").exists()
]
_SCOPE = ("systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes")
_APART = (
    *(_SCOPE if _HOST_HAS_SYSTEMD else ()),
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_PREFIX = "container-"
_BOOT_SECONDS = 60
_HALT_SECONDS = 30
_BOOT = """
for group in $GROUPS_OF_OURS; do echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs tmpfs /run  # for what nspawn leaves there
mount -t overlay overlay -o "$LAYERS" "$MERGED"
exec systemd-nspawn --quiet --boot --directory="$MERGED" --private-network \\
    --register=no --keep-unit --link-journal=no --console=pipe --machine=clinic \\
    --bind="$SRV:/srv" --bind-ro="$WHEELS:$WHEELHOUSE"
"""


def image(cache: Path) -> Path:
    """The folder of a minimal Debian with what the tests need, made where it is not there yet."""
    key = hashlib.sha256(" ".join((RELEASE, *PACKAGES)).encode()).hexdigest()[:8]
    folder = cache / f"{RELEASE}-{key}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = cache / f"{folder.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    packages = f"--include={','.join(PACKAGES)}"
    _run(["debootstrap", "--variant=minbase", packages, RELEASE, str(unfinished)], seconds=900)
    # NetBIOS needs a network.
    _run(["systemctl", f"--root={unfinished}", "mask", "nmbd.service"])
    unfinished.rename(folder)
    return folder


def wheelhouse(cache: Path, source: Path) -> Path:
    """A folder with every wheel that installing the project by pip takes, but for the project's own."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    # pipx puts newer ones of the last three into the environment that all its programs share.
    optional = project["optional-dependencies"]
    extras = [one for name in ("formats", "coverage", "docx", "page", "fleet") for one in optional[name]]
    wanted = [*project["dependencies"], *extras, "pip", "setuptools", "wheel"]
    folder = cache / f"wheels-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    unfinished = cache / f"{folder.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    machine = os.uname().machine
    target = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    for platform in ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "linux"):
        target.append(f"--platform={platform}_{machine}")
    _run([sys.executable, "-m", "pip", "download", "--quiet", f"--dest={unfinished}", *target, *wanted],
         seconds=600)  # fmt: skip
    unfinished.rename(folder)
    return folder


def _run(command: Sequence[str], *, seconds: float = 60) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"


def clear(cache: Path) -> None:
    """Remove what killed tests left in `cache`: folders and empty control groups, nothing that runs."""
    for folder in cache.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder)
    for hierarchy in _HIERARCHIES:
        for group in hierarchy.glob(f"invox-watcher-{_PREFIX}*"):
            _remove_group(group)


@dataclass(frozen=True)
class Layer:
    """What a container starts from: folders of the root file system, the topmost first, and that of /srv."""

    lower: tuple[Path, ...]
    srv: Path | None = None


class Container:
    """A booted Debian on `layer`, for as long as the `with` block lasts.

    `/srv` is a folder of the host's disk, since leases and mounts on an overlay are not those of a disk.
    """

    def __init__(self, layer: Layer, *, cache: Path, wheels: Path) -> None:
        self._layer, self._wheels = layer, wheels
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=cache))
        self._groups = [hierarchy / f"invox-watcher-{self._folder.name}" for hierarchy in _HIERARCHIES]
        self._process: subprocess.Popen[bytes] | None = None
        self._nspawn = self._leader = 0

    # ---- its life ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def freeze(self) -> Layer:
        """Shut the container down properly; what others can start from as long as the block lasts."""
        assert self._process is not None
        os.kill(self._nspawn, signal.SIGTERM)
        assert self._process.wait(_HALT_SECONDS) == 0, self.console
        return Layer((self._folder / "upper", *self._layer.lower), self._folder / "srv")

    @property
    def console(self) -> str:
        """What systemd-nspawn and the container's console said."""
        return (self._folder / "console").read_text(errors="replace")

    def _boot(self) -> None:
        for name in ("upper", "work", "merged"):
            (self._folder / name).mkdir()
        if self._layer.srv is None:
            (self._folder / "srv").mkdir()
        else:  # with its owners, who are not the host's
            _run(["cp", "--archive", str(self._layer.srv), str(self._folder / "srv")])
        for group in self._groups:
            group.mkdir()
        lower = ":".join(map(str, self._layer.lower))
        environment = {
            "GROUPS_OF_OURS": " ".join(map(str, self._groups)),
            "LAYERS": f"lowerdir={lower},upperdir={self._folder}/upper,workdir={self._folder}/work",
            "MERGED": f"{self._folder}/merged",
            "SRV": f"{self._folder}/srv",
            "WHEELS": str(self._wheels),
            "WHEELHOUSE": WHEELHOUSE,
        }
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [*_APART, "sh", "-euc", _BOOT],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._wait_until_booted()

    def _wait_until_booted(self) -> None:
        assert self._process is not None
        give_up = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < give_up and self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                self._nspawn = children(self._process.pid)[0]
                self._leader = children(self._nspawn)[0]
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise AssertionError(f"the container did not boot:\n{self.console}")

    def _close(self) -> None:
        if self._process is not None:
            self._process.kill()  # and with it all that it started, which see _APART
            self._process.wait()
        for group in self._groups:
            _remove_group(group)
        shutil.rmtree(self._folder)

    # ---- what is done in it ------------------------------------------------------------------------------

    def run(
        self,
        script: str,
        *,
        stdin: str = "",
        check: bool = True,
        seconds: float = 120,
        environment: Mapping[str, str] = _ENVIRONMENT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root, in /root; `check` fails the test where it does not end with 0."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        enter = ["nsenter", "--target", str(self._leader), "--all", "env", "-i", *variables]
        done = subprocess.run(
            [*enter, "sh", "-euc", f"cd /root\n{script}"],
            input=stdin, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, (
            f"{script}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}\n{self._journal()}"
        )
        return done

    def _journal(self) -> str:
        return self.run("journalctl --no-pager --lines=50", check=False).stdout

    def out(self, script: str) -> str:
        """What the script printed."""
        return self.run(script).stdout.strip()

    def wait_for(self, script: str, *, seconds: float = 60) -> None:
        """Run the script again and again until it ends with 0; fail where it never does."""
        give_up = time.monotonic() + seconds
        while (done := self.run(script, check=False)).returncode:
            assert time.monotonic() < give_up, (
                f"never: {script}\n{done.stdout}{done.stderr}\n{self._journal()}"
            )
            time.sleep(0.2)

    def put(self, source: Path, path: str) -> None:
        """Copy a file of the host into the container."""
        command = ["nsenter", "--target", str(self._leader), "--mount", "tee", path]
        subprocess.run(command, input=source.read_bytes(), stdout=subprocess.DEVNULL, check=True)

    def fetch(self, path: str, target: Path) -> Path:
        """Copy a file of the container to the host; `target`."""
        command = ["nsenter", "--target", str(self._leader), "--mount", "cat", path]
        with target.open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
        return target


def _remove_group(group: Path) -> None:
    """Remove a control group and those below it, as soon as the last process has left."""
    give_up = time.monotonic() + _HALT_SECONDS
    while group.exists():
        for folder, _names, _files in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        assert time.monotonic() < give_up, f"processes are left in {group}"
        time.sleep(0.05)
