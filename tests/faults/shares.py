"""Real network shares for a test: sshfs from an sshd of its own, bindfs, and a Samba server, all on loopback.

Each is a context manager after which nothing is mounted and nothing runs, whatever became of it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kit.clinic import free_port
from tests.kit.processes import family
from tests.kit.waiting import wait_for

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_SFTP_SERVER = "/usr/lib/openssh/sftp-server"


class Share:
    """The folder `far`, seen at `near` through a file system in user space."""

    def __init__(self, far: Path, near: Path, command: Sequence[str]) -> None:
        self.far, self.near = far, near
        self._command = [*command, "-f", "-o", "allow_other"]
        self._process: subprocess.Popen[bytes] | None = None
        far.mkdir(parents=True, exist_ok=True)
        near.mkdir(parents=True, exist_ok=True)

    def mount(self) -> None:
        """Mount it, as after the network came back."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        wait_for("the share is mounted", lambda: is_mounted(self.near))

    def kill(self) -> None:
        """Kill its process: the folder stays mounted, and whatever is done in it fails with ENOTCONN."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def unmount(self) -> None:
        """Leave an empty mount point."""
        while is_mounted(self.near):
            subprocess.run(["umount", "--lazy", str(self.near)], check=True)
        if self._process is not None:
            self.kill()


def is_mounted(folder: Path) -> bool:
    """Whether something is mounted there; asked of the mount table, which never hangs."""
    return any(
        line.split()[4] == str(folder) for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


@contextlib.contextmanager
def bindfs(far: Path, near: Path) -> Iterator[Share]:
    """`near` shows `far`, as a share shows the folder of a server."""
    share = Share(far, near, ["bindfs", str(far), str(near)])
    try:
        share.mount()
        yield share
    finally:
        share.unmount()


class Server:
    """A process, and those it started."""

    def __init__(self, command: Sequence[str], *, log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, "PATH": _PATH}
            )

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        for pid in family(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        """Kill all of them."""
        self.signal(signal.SIGKILL)
        self._process.wait()


class SshShare(Share):
    """A share whose server can hang."""

    def __init__(self, far: Path, near: Path, command: Sequence[str], server: Server) -> None:
        super().__init__(far, near, command)
        self._server = server

    def hang(self) -> None:
        """The server doesn't answer any more; whoever asks for a file waits."""
        self._server.signal(signal.SIGSTOP)

    def answer(self) -> None:
        """The server goes on."""
        self._server.signal(signal.SIGCONT)


@contextlib.contextmanager
def sshfs(far: Path, near: Path) -> Iterator[SshShare]:
    """`near` shows `far` by way of an SSH server on a port of its own, with a key of its own."""
    # What Debian's sshd wants, and its service makes at the start. It stays: another test may be using it.
    Path("/run/sshd").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder:
        port = free_port()
        server = Server(_sshd(Path(folder), port), log=Path(folder, "log"))
        share = SshShare(far, near, _sshfs(Path(folder), port, far, near), server)
        try:
            _wait_for_port(port)
            share.mount()
            yield share
        finally:
            share.answer()
            share.unmount()
            server.end()


class Sftp:
    """An SFTP server to which the account `nobody` copies files."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port

    def sftp(self, *commands: str, kbit_per_second: int) -> subprocess.Popen[bytes]:
        """Start `sftp` with these commands."""
        batch = self._folder / "batch"
        batch.write_text("\n".join(commands) + "\n")
        return self._start("sftp", "-l", str(kbit_per_second), "-b", str(batch), "nobody@127.0.0.1")

    def scp(self, source: Path, target: Path, *, kbit_per_second: int) -> subprocess.Popen[bytes]:
        """Start `scp -p`."""
        return self._start("scp", "-p", "-l", str(kbit_per_second), str(source), f"nobody@127.0.0.1:{target}")

    def mounted(self, far: Path, near: Path) -> Share:
        """`near`, once it is mounted, is what a client of this server sees of `far`."""
        return Share(far, near, _sshfs(self._folder, self._port, far, near, user="nobody@"))

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", f"Port={self._port}"]
        options += [f"IdentityFile={self._folder}/user", "LogLevel=ERROR"]
        given = [part for option in options for part in ("-o", option)]
        return subprocess.Popen(
            [program, "-q", "-F", "/dev/null", *given, *arguments], start_new_session=True
        )


@contextlib.contextmanager
def sftp_server() -> Iterator[Sftp]:
    """An SSH server on a port of its own, which allows `nobody` to use SFTP."""
    Path("/run/sshd").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sftp-") as folder:
        os.chmod(folder, 0o755)
        port = free_port()
        server = Server(
            [*_sshd(Path(folder), port), "-o", "ForceCommand=internal-sftp"], log=Path(folder, "log")
        )
        try:
            _wait_for_port(port)
            yield Sftp(Path(folder), port)
        finally:
            server.end()


def _sshd(folder: Path, port: int) -> list[str]:
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp {_SFTP_SERVER}\n"
    )
    program = shutil.which("sshd", path=_PATH)
    assert program is not None
    return [program, "-D", "-e", "-f", str(folder / "config")]  # it wants its own absolute path


def _sshfs(folder: Path, port: int, far: Path, near: Path, user: str = "") -> list[str]:
    # Without sshfs's own cache, which shows for twenty seconds what is no longer so.
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "reconnect", "dir_cache=no"]
    command = ["sshfs", f"{user}127.0.0.1:{far}", str(near), "-p", str(port), "-F", "/dev/null"]
    return [*command, "-o", ",".join([f"IdentityFile={folder}/user", *options])]


class Samba:
    """A Samba server that shares one folder with guests."""

    def __init__(self, port: int) -> None:
        self._port = port

    def client(self, *commands: str) -> None:
        """Run `smbclient` with these commands, as a device or a person would."""
        self.start(*commands).communicate(timeout=60)

    def start(self, *commands: str) -> subprocess.Popen[bytes]:
        """Start `smbclient` with these commands; it fails the test where one fails."""
        command = ["smbclient", "//127.0.0.1/inbox", "-N", "-p", str(self._port), "-c", "; ".join(commands)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def samba(folder: Path, *lines: str) -> Iterator[Samba]:
    """Share `folder` as \\\\127.0.0.1\\inbox; `lines` are added to the share's part of smb.conf."""
    with tempfile.TemporaryDirectory(prefix="smbd-") as directory:
        port = free_port()
        config = Path(directory, "smb.conf")
        config.write_text(_smb_conf(Path(directory), port, folder, lines))
        server = Server(
            ["smbd", "--foreground", "--no-process-group", f"--configfile={config}"],
            log=Path(directory, "log"),
        )
        try:
            _wait_for_port(port)
            yield Samba(port)
        finally:
            server.end()


def _smb_conf(directory: Path, port: int, folder: Path, lines: Sequence[str]) -> str:
    places = ("private dir", "lock directory", "state directory", "cache directory", "pid directory")
    return "\n".join(
        [
            "[global]",
            f"smb ports = {port}",
            "interfaces = 127.0.0.1",
            "bind interfaces only = yes",
            "server role = standalone",
            "disable netbios = yes",
            "load printers = no",
            "map to guest = bad user",
            "guest account = root",
            f"ncalrpc dir = {directory}/ncalrpc",
            f"log file = {directory}/log.%m",
            *(f"{place} = {directory}" for place in places),
            "[inbox]",
            f"path = {folder}",
            "guest ok = yes",
            "read only = no",
            *lines,
            "",
        ]
    )


def _wait_for_port(port: int) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_for("the server listens", listens)
