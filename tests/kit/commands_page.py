"""The commands of docs/commands.md and docs/troubleshooting.md, given for real in a clinic of their own.

`python -m tests.kit.commands_page` writes what they print into the pages, or into those that it is given.
What has to happen before a block of commands, and is not shown to readers, is in a comment before it:
`<!-- before: touch inbox/empty.wav -->`.

In a page the clinic lies where a real one does, and a recording's id is the one of the run that wrote it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from invox_watcher.host.users import User
from tests.kit.clinic import Clinic, free_port, sandbox
from tests.kit.commands import ids
from tests.kit.forks import forks
from tests.kit.recordings import write_wav

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE, TROUBLESHOOTING = DOCS / "commands.md", DOCS / "troubleshooting.md"
_BLOCK = re.compile(r"^(?:<!-- before: ([^\n]*) -->\n\n?)?```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = r"\d{8}t\d{6}-[0-9a-f]{12}"
# A command without anything that a shell would understand otherwise.
_ALONE = re.compile(r"invox-watcher [\w ./:=@-]+")
# What differs from run to run and from machine to machine, and what it may look like.
_VARIES = (
    (_ID, "ID"),
    (r"\d{4}-\d\d-\d\d[ T][\d:.]+(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"[0-9a-f]{64}", "HASH"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "REQUEST"),
    (r" +\+[\d.]+ s", " AFTER"),
    (r"\d+\.\d+ s", "SECONDS"),
    (r"\(\d+ s\)", "(SECONDS)"),
    (r"(waited_seconds=)[\d.]+", r"\1N"),
    (r"[\d.]+ GB free", "FREE"),
    (r"backup.tar, \d+ bytes", "backup.tar, N bytes"),
    (r"at most \d+ folders", "at most N folders"),
    (r"\b(ext[234]|xfs|btrfs|overlay|tmpfs)\b", "FILESYSTEM"),
    (r"pid \d+", "pid N"),
    (r"^runs from .*\n", ""),  # the clone that the tests run from
    (r"^(invox-watcher|version) +\d\S+$", "VERSION"),
    (r"^(C|P)\w+ \d.*", "VERSIONS"),
)


class Session:
    """Runs the page's commands, one after the other, in a clinic that a sandbox serves."""

    def __init__(self, home: Path, base_url: str, page: Path = PAGE) -> None:
        self._listen, self._base_url = f"127.0.0.1:{free_port()}", base_url
        self.clinic = Clinic(
            home / "clinic",
            base_url,
            credentials={"app_id": "sandbox-app", "api_key": "sandbox-key"},
            http={"listen": self._listen},
            watch={
                "grace_seconds": 1,
                "settle_seconds": 2,
                "unproven_seconds": 30,
                "rescan_seconds": 60,
                "patience_seconds": 300,
            },
        )
        self.clinic.config.chmod(0o600)
        self._home = home
        # The ids in the page, and the recordings that its list of all says they are of.
        listed = re.findall(rf"^({_ID})  \w+ +\S+ \S+  (\S+)", page.read_text(), re.MULTILINE)
        self._meant = dict(listed)
        write_wav(home / "smith.wav")
        write_wav(home / "jones.wav", pitch=500)
        (home / "letter.wav").write_text("Dear colleague,\nthank you for referring this patient.\n")
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home), "TZ": "UTC", "INVOX_WATCHER_CONFIG": str(self.clinic.config),
        }  # fmt: skip

    def gives(self, command: str) -> str:
        """What the command prints, with the names that the page has for everything."""
        script = self.of_this_run(command)
        for real, shown in self._names():
            script = script.replace(shown, real)
        printed = self._printed(script)
        for real, shown in self._names():
            printed = printed.replace(real, shown)
        printed = re.sub(r"\(\w+:\w+ (?=[rwx-]{9}\))", "(invox:invox ", printed)
        return re.sub(rf"\b{User.current().name}\b", "invox", printed)

    def _printed(self, script: str) -> str:
        """What goes to standard output and standard error. Alone, a command of ours needs no shell."""
        if _ALONE.fullmatch(script):
            output = self._home.parent / f"{self._home.name}.output"
            output.unlink(missing_ok=True)
            forks().run(
                script.split()[1:],
                stdout=output,
                stderr=output,
                seconds=60,
                environment=self._environment,
                folder=self._home,
            )
            return output.read_text()
        return subprocess.run(
            ["sh", "-c", script], cwd=self._home, env=self._environment, timeout=60, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ).stdout  # fmt: skip

    def of_this_run(self, command: str) -> str:
        """The command with the ids that this run gave to the recordings that the page means."""
        return re.sub(_ID, lambda found: ids(self.clinic)[self._meant[found[0]]], command)

    def _names(self) -> Iterator[tuple[str, str]]:
        root = self.clinic.root
        yield str(self.clinic.config), "/etc/invox-watcher/config.yaml"
        yield str(root / "state"), "/var/lib/invox-watcher"
        yield str(root), "/srv/dictation"
        yield str(self._home), "/home/admin"
        yield self._base_url, "https://api.example.com"
        yield self._base_url.removeprefix("http://"), "api.example.com"
        yield self._listen, "127.0.0.1:8787"


def blocks(text: str) -> list[list[tuple[str, str]]]:
    """For each console block its commands, each with what the page says that it prints."""
    found = []
    for before, block in _BLOCK.findall(text):
        parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
        unseen = [(f"{{ {before}; }} > /dev/null 2>&1", "")] if before else []
        found.append([*unseen, *zip(parts[1::2], parts[2::2], strict=True)])
    return found


def alike(printed: str) -> str:
    """`printed` with all that varies replaced by what it is."""
    for pattern, name in _VARIES:
        printed = re.sub(pattern, name, printed, flags=re.MULTILINE)
    return printed


def _written(text: str, session: Session) -> str:
    def block(found: re.Match[str]) -> str:
        (commands,) = blocks(found[0])
        head, fence, _rest = found[0].partition("```console\n")
        if found[1]:
            session.gives(commands.pop(0)[0])
        lines = []
        for command, _before in commands:
            printed = session.gives(command)
            lines.append(f"$ {session.of_this_run(command)}\n{printed}")
        return f"{head}{fence}{''.join(lines)}```"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    for page in (PAGE, TROUBLESHOOTING):
        if len(sys.argv) > 1 and page.name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder, "api")) as api:
            page.write_text(_written(page.read_text(), Session(Path(folder), api.base_url, page)))
