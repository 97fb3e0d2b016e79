"""Transcripts as files on an SFTP server, by OpenSSH's `sftp` in batch mode: sftp(1), `-b`.

A file is written under its name with `.part`, synced if the server can, and renamed. One `sftp` process, and
with it one connection, serves many deliveries: it reads commands from a pipe and prints each before it runs
it. So the comment behind a delivery's commands is printed once all of them have succeeded; a command that
fails ends the process. Contents are handed over in memory, so that no word is on a disk of this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.delivery.target import Document, Shipment, attributes_of, filled, one_line
from invox_watcher.errors import (
    DeliveryUncertainError,
    TargetError,
    TargetUnavailableError,
    UnsendableError,
)
from invox_watcher.heartbeat import beat
from invox_watcher.patterns import Pattern

_PART = ".part"
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,12}\Z")
_NAME_BYTES = 255
_LINE_BYTES = 2000  # sftp reads at most 2047 bytes of a line, and takes the rest for another command
_FEWEST_FILES = 4
_FILE_MODE = 0o660  # asked of the server, whose umask applies
_EXIT_SECONDS = 2.0
_CONNECTION_LOST = 255
_PASSED_ON = ("PATH", "HOME", "USER", "LANG")
# What ssh and the server report on failure, by a part of it, in lower case; the first that fits counts.
_FAULTS = (
    ("host key verification failed", "host_key", "has a host key that is not in known_hosts",
     "Ask its administrator whether the key was changed. `ssh-keyscan -p PORT HOST` shows the current one."),
    ("permission denied (", "login", "rejected the login", "Check user and key_file (without passphrase)."),
    ("too many authentication failures", "login", "rejected the login", "Check user and key_file."),
    ("could not resolve hostname", "network", "can't be resolved", "Check host, and DNS."),
    ("connection refused", "network", "refused the connection", "Check host and port."),
    ("no route to host", "network", "can't be reached", "Check host, and the network."),
    ("network is unreachable", "network", "can't be reached", "Check host, and the network."),
    ("timed out", "timeout", "did not answer in time", "Check host and port, and any firewall."),
    ("subsystem request failed", "sftp", "offers no SFTP", "Ask its administrator."),
    ("bad permissions", "login", "can't be logged in to: key_file is open to others", "chmod 600 the file."),
    ("permission denied", "permission", "does not allow that", "Check the account's permissions in folder."),
    ("no such file", "folder", "does not have the folder", "What is before its first field must exist."),
    ("not a directory", "folder", "does not have the folder", "Check folder."),
    ("no space left", "full", "has no space left", "Ask its administrator."),
)  # fmt: skip


@dataclass(frozen=True)
class SftpOptions:
    """The keys of a target of kind `sftp`."""

    host: str
    port: int
    user: str
    key_file: Path
    known_hosts: Path
    folder: str
    filename: str
    formats: tuple[str, ...]
    timeout_seconds: float


class Sftp:
    """A folder on an SFTP server."""

    def __init__(self, options: SftpOptions) -> None:
        self.formats = options.formats
        self._options = options
        self._where = f"{options.host}:{options.port}"
        self._folder, self._filename = Pattern(options.folder), Pattern(options.filename)
        self._session: _Session | None = None

    @property
    def attributes(self) -> frozenset[str]:
        return attributes_of(self._folder, self._filename)

    def send(self, shipment: Shipment) -> str:
        folders, paths = self.places(shipment)
        contents = [document.content for document in shipment.documents]
        make = [f"-mkdir {quoted(folder)}" for folder in folders]
        renames = [f"rename {quoted(path + _PART)} {quoted(path)}" for path in paths]
        put = [f"{quoted(path + _PART)}" for path in paths]
        ended = self._run(contents, make, put, renames)
        if ended is not None and ended.is_at_rename and not ended.lost:
            # Servers without OpenSSH's extension don't rename to a name that is taken: by an earlier attempt.
            pairs = zip(paths, renames, strict=True)
            ended = self._run(
                contents,
                [],
                put,
                [line for path, rename in pairs for line in (f"-rm {quoted(path)}", rename)],
            )
        if ended is not None:
            raise self._failed(ended)
        return f"{len(paths)} file{'s' if len(paths) != 1 else ''}"

    def _run(
        self, contents: Sequence[bytes], make: Sequence[str], put: Sequence[str], renames: Sequence[str]
    ) -> _Ended | None:
        """Over a new connection if the kept one turns out to be closed before anything could be renamed."""
        kept = self._session is not None
        session = self._connected(len(contents))
        while True:
            session.load(contents)
            uploads = [
                f"put -f /proc/self/fd/{fd} {path}" for fd, path in zip(session.files, put, strict=False)
            ]
            ended = session.run([*make, *uploads, *renames])
            is_stale = ended is not None and ended.lost and not (ended.timed_out or ended.is_at_rename)
            if not (kept and is_stale):
                return ended
            kept, session = False, self._reconnected(len(contents))

    def probe(self) -> None:
        session = self._connected(0)
        ended = session.run([f"cd {quoted(_existing(self._options.folder))}"])
        if ended is not None:
            raise self._failed(ended)
        self.close()

    def abort(self) -> None:
        if (session := self._session) is not None:
            session.kill()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def places(self, shipment: Shipment) -> tuple[list[str], list[str]]:
        """The folders to make, and the path of each document. Raises UnsendableError."""
        values = shipment.fields
        existing = _existing(self._options.folder)
        folder = filled(self._folder, values, _component).rstrip("/") or "/"
        made = folder.removeprefix(existing).strip("/").split("/") if folder != existing else []
        base = existing.rstrip("/")
        folders = [f"{base}/{'/'.join(made[: depth + 1])}" for depth in range(len(made))]
        stem = filled(self._filename, values, _component)
        names = [_named(stem, document) for document in shipment.documents]
        if len(set(names)) < len(names):
            raise UnsendableError("Two documents would have the same name.", code="same_name")
        return folders, [f"{folder.rstrip('/')}/{name}" for name in names]

    def _connected(self, files: int) -> _Session:
        if self._session is not None and self._session.is_usable(files):
            return self._session
        return self._reconnected(files)

    def _reconnected(self, files: int) -> _Session:
        self.close()
        self._session = _Session(self._command(), max(files, _FEWEST_FILES), self._options.timeout_seconds)
        return self._session

    def _command(self) -> list[str]:
        options = self._options
        for key in ("key_file", "known_hosts"):
            if not os.access(getattr(options, key), os.R_OK):
                raise TargetUnavailableError(
                    f"{key}: {getattr(options, key)} can't be read.",
                    code="secret",
                    hint="The file must exist, and the daemon's user must be able to read it.",
                )
        seconds = max(int(options.timeout_seconds), 1)
        settings = {
            "BatchMode": "yes",
            "PreferredAuthentications": "publickey",
            "IdentityFile": _ssh_path(options.key_file),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _ssh_path(options.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "ClearAllForwardings": "yes",
            "ConnectTimeout": str(seconds),
            "ServerAliveInterval": str(max(seconds // 3, 1)),
            "Port": str(options.port),
            "User": options.user,
            "LogLevel": "ERROR",
        }
        given = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        host = f"[{options.host}]" if ":" in options.host else options.host
        return ["sftp", "-F", "/dev/null", *given, "-b", "-", "--", host]

    def _failed(self, ended: _Ended) -> TargetError:
        self.close()
        if ended.lost and ended.is_at_rename:
            return DeliveryUncertainError(f"The connection to {self._where} was lost during the last step.")
        said = ended.said.lower()
        for part, code, fault, hint in _FAULTS:
            if part in said:
                return TargetUnavailableError(f"{self._where} {fault}.", code=code, hint=hint)
        if ended.timed_out:
            fault, hint = "did not finish in time", "Is it slow? Raise timeout_seconds."
            return TargetUnavailableError(f"{self._where} {fault}.", code="timeout", hint=hint)
        fault = "closed the connection" if ended.lost else f"failed to {ended.command or 'start'}"
        return TargetUnavailableError(
            f"{self._where} {fault}.", code="sftp", hint="Try the same with the program `sftp`."
        )


@dataclass(frozen=True)
class _Ended:
    """How a process ended before its commands were done."""

    command: str  # the last one begun: "put", "rename"; "" if it did not get that far
    said: str  # what ssh, sftp and the server said; may contain names
    status: int
    timed_out: bool

    @property
    def lost(self) -> bool:
        """Whether the connection ended, rather than a command failed."""
        return self.timed_out or self.status == _CONNECTION_LOST or self.status < 0

    @property
    def is_at_rename(self) -> bool:
        return self.command == "rename"


class _Session:
    """A running `sftp`, and the files in memory by which it is handed contents."""

    def __init__(self, command: Sequence[str], files: int, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._marks = 0
        self._timed_out = False
        self.files = [os.memfd_create("document") for _ in range(files)]
        for fd in self.files:
            os.fchmod(fd, _FILE_MODE)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the system's sftp, without a shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self.files,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"LC_ALL": "C"},
                start_new_session=True,
            )
        except FileNotFoundError:
            self._close_files()
            raise TargetUnavailableError(
                "The program sftp is not installed.", code="sftp", hint="apt install openssh-client"
            ) from None

    def is_usable(self, files: int) -> bool:
        return self._process.poll() is None and len(self.files) >= files

    def load(self, contents: Sequence[bytes]) -> None:
        """Put each content into one of the files."""
        for fd, content in zip(self.files, contents, strict=False):
            os.ftruncate(fd, 0)
            with open(os.dup(fd), "r+b") as file:
                file.seek(0)
                file.write(content)

    def run(self, commands: Sequence[str]) -> _Ended | None:
        """Have them done in order; None if they were, else how the process ended."""
        self._marks += 1
        mark = f"# {self._marks}"
        beat(self._timeout_seconds)
        timer = threading.Timer(self._timeout_seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            return self._outcome("".join(f"{command}\n" for command in [*commands, mark]), f"sftp> {mark}")
        finally:
            timer.cancel()
            beat()

    def kill(self) -> None:
        """End the process at once, and with it ssh."""
        if self._process.returncode is None:  # its number may be another's otherwise
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process: it does so itself once it finds no more commands."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._process.stdout.close()
        self._close_files()

    def _outcome(self, script: str, mark: str) -> _Ended | None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(script.encode("utf-8", "surrogateescape"))
            self._process.stdin.flush()
        command, said = "", []
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace").strip()
            if text == mark:
                return None
            begun = re.match(r"sftp> ([a-z]+)", text)
            if begun:
                command = begun[1]
            elif not text.startswith("sftp> "):
                said.append(text)
        return _Ended(command, "\n".join(said), self._process.wait(), self._timed_out)

    def _give_up(self) -> None:
        self._timed_out = True
        self.kill()

    def _close_files(self) -> None:
        for fd in self.files:
            os.close(fd)


def quoted(path: str) -> str:
    """A path as one word of a batch file.

    Within double quotes only `\\` and `"` are special (OpenSSH, sftp.c, makeargv); wildcards are escaped by
    sftp itself.

    Raises:
        UnsendableError: `bad_name`, there is a control character in it, or it is too long for a line.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise UnsendableError("A file's name contains a control character.", code="bad_name")
    word = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if len(word.encode("utf-8", "surrogateescape")) > _LINE_BYTES // 2 - len(_PART) * 2:
        raise UnsendableError(
            "The path of a file is too long.", code="bad_name", hint="Shorten folder or filename."
        )
    return word


def _ssh_path(path: Path) -> str:
    """A path as an option of ssh, in which `%` begins a token: ssh_config(5)."""
    return '"' + str(path).replace("%", "%%") + '"'


def _component(value: str) -> str:
    """A value as part of the name of a file or folder: it adds no folder, and leads out of none."""
    text = re.sub(r"[/\\]", "_", one_line(value)).strip()
    if text.startswith("."):
        text = f"_{text[1:]}"
    if not text:
        raise UnsendableError(
            "An attribute in the path is empty.", code="empty_attribute", hint="Check folder and filename."
        )
    return _shortened(text, _NAME_BYTES)


def _named(stem: str, document: Document) -> str:
    """The name of a document's file: the stem, shortened if need be, and the document's own extension."""
    found = _EXTENSION.search(document.name)
    extension = found[0] if found else ""
    return _shortened(stem, _NAME_BYTES - len((extension + _PART).encode())) + extension


def _shortened(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode("utf-8", "ignore")


def _existing(folder: str) -> str:
    """The folders before the first field of a pattern: they are not made: one may be misspelt."""
    before = folder.partition("{")[0]
    if before != folder:
        before = before.rpartition("/")[0] or ("/" if before.startswith("/") else ".")
    return before.rstrip("/") or "/"
