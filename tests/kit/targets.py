"""Targets as docs/delivery.md configures them, and servers of Debian packages to deliver to."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import yaml

from invox_watcher.assembly import target_of
from invox_watcher.config import load
from invox_watcher.delivery import Target
from tests.kit.clinic import free_port
from tests.kit.processes import family
from tests.kit.waiting import wait_for

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "delivery.md"
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_RELAY = Path(__file__).with_name("sftp_relay.py")


@contextlib.contextmanager
def ended_by(
    action: Callable[[], object], *, after: float, once: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Act so many seconds after `once` holds; the block has to end soon then, and not at its own timeout."""
    acted: list[float] = []

    def act() -> None:
        wait_for("it is under way", once)
        time.sleep(after)
        acted.append(time.monotonic())
        action()

    acting = threading.Thread(target=act)
    acting.start()
    try:
        yield
        assert acted, "it had ended by itself"
        assert time.monotonic() - acted[0] < 5
    finally:
        acting.join()


def recipe(kind: str) -> dict[str, Any]:
    """The section of the page's recipe for a kind."""
    section = PAGE.read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 1, f"docs/delivery.md has {len(blocks)} recipes for {kind}"
    (target,) = yaml.safe_load(blocks[0])["targets"].values()
    return dict(target)


def target(folder: Path, kind: str, /, **changes: Any) -> Target:
    """The page's target of that kind, with other hosts, ports and files; a change to None removes a key."""
    section = {key: value for key, value in (recipe(kind) | changes).items() if value is not None}
    config = {
        "api": {"base_url": "https://api.example.com"},
        "credentials": {"app_id": "a", "api_key": "b"},
        "folders": {"root": "/srv/dictation"},
        "targets": {"it": section},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True))
    return target_of(load(path, {}).targets["it"])


class Exim:
    """A mail server: Debian's Exim, which keeps what it takes in its queue.

    It refuses the recipient nobody@…, says "later" to later@…, and refuses subjects with "refuse"; after
    "slow" in the subject it answers the final dot only after ten seconds.
    """

    def __init__(self, folder: Path, certificate: Path) -> None:
        self.folder, self.certificate = folder, certificate
        self.port, self.tls_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        as_root = os.geteuid() == 0  # which Exim refuses to be
        user, group = ("nobody", "nogroup") if as_root else (str(os.geteuid()), str(os.getegid()))
        self._as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if as_root else []
        places = {"folder": folder, "port": self.port, "tls": self.tls_port}
        (folder / "exim.conf").write_text(_EXIM.format(**places, user=user, group=group))
        if as_root:
            shutil.chown(folder, "nobody", "nogroup")
            shutil.chown(folder / "key.pem", "nobody", "nogroup")

    def start(self) -> None:
        program = shutil.which("exim4", path=_PATH)
        assert program is not None
        command = [*self._as_user, program, "-C", str(self.folder / "exim.conf"), "-bdf"]
        self._process = subprocess.Popen(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for("Exim listens", lambda: _listens(self.port))

    def stop(self) -> None:
        """End it, with all connections."""
        assert self._process is not None
        for pid in family(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._process.wait()

    @property
    def queue(self) -> list[EmailMessage]:
        """The messages that it has taken, oldest first."""
        return [self._read(path) for path in sorted((self.folder / "spool" / "input").glob("*-H"))]

    def _read(self, headers: Path) -> Any:
        """From the two files of the queue: Exim specification, chapter "Format of spool files"."""
        lines = headers.read_bytes().partition(b"\n\n")[2]
        content = re.sub(rb"(?m)^\d{3}(?:[A-Z*]| ) ", b"", lines)
        data = headers.with_name(headers.name.removesuffix("-H") + "-D").read_bytes().partition(b"\n")[2]
        return email.message_from_bytes(content + b"\n" + data, policy=email.policy.default)


_EXIM = """\
primary_hostname = mail.test
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
exim_user = {user}
exim_group = {group}
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls}
tls_on_connect_ports = {tls}
tls_certificate = {folder}/certificate.pem
tls_privatekey = {folder}/key.pem
tls_advertise_hosts = *
queue_only = true
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 200K
never_users =
acl_smtp_rcpt = recipient
acl_smtp_data = message
begin acl
recipient:
  deny local_parts = nobody
       message = 5.1.1 no $local_part here
  defer local_parts = later
       message = 4.2.1 not now, $local_part
  accept
message:
  deny condition = ${{if match{{$h_subject:}}{{refuse}}}}
       message = 5.7.1 $h_subject:
  accept condition = ${{if match{{$h_subject:}}{{slow}}}}
       delay = 10s
  accept
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{dictation}}}}{{eq{{$auth3}}{{a pass word}}}}}}}}
  server_set_id = $auth2
"""


@contextlib.contextmanager
def exim(certificate: Path) -> Iterator[Exim]:
    """A mail server on two ports of its own: with STARTTLS, and with TLS from the first byte on.

    `certificate` has its key beside it, in key.pem.
    """
    with tempfile.TemporaryDirectory(prefix="exim-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in (certificate, certificate.with_name("key.pem")):
            shutil.copy(file, folder / file.name)
        server = Exim(folder, certificate)
        try:
            server.start()
            yield server
        finally:
            server.stop()


class Sshd:
    """An SSH server with SFTP, whose `mode` decides how it behaves: see tests/kit/sftp_relay.py."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.home = folder / "home"
        self.home.mkdir()
        self.key_file, self.known_hosts = folder / "user", folder / "known_hosts"
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(command, check=True)
        key = (folder / "host.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}")
        self.mode = "plain"
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/user.pub\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            f"Subsystem sftp {sys.executable} {_RELAY} {folder}\n"
        )

    @property
    def mode(self) -> str:
        return (self.folder / "mode").read_text()

    @mode.setter
    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    @property
    def connections(self) -> int:
        """How many sessions there have been."""
        sessions = self.folder / "sessions"
        return len(sessions.read_text().splitlines()) if sessions.exists() else 0

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # stays: another test may be using it
        program = shutil.which("sshd", path=_PATH)
        assert program is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "config")], stdout=log, stderr=log
            )
        wait_for("sshd listens", lambda: _listens(self.port))

    def stop(self, signal: int = 9) -> None:
        for pid in family(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal)
        if signal == 9:
            self._process.wait()


@contextlib.contextmanager
def sshd() -> Iterator[Sshd]:
    """An SSH server on a port of its own, with keys of its own, into which this user can log in."""
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder:
        server = Sshd(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _listens(port: int) -> bool:
    """Asked of the kernel: a connection would show in the server's log."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
