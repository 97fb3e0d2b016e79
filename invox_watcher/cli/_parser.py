"""The command line's grammar: every command with its options, help and examples."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any, get_args

from invox_watcher import version
from invox_watcher.cli._arguments import glob, path, port, positive, since, text, until
from invox_watcher.cli._commands import DIRECTORY, FILE, Commands, Help, Parser, completed
from invox_watcher.job import State
from invox_watcher.outputs import OutputFormat

_SHELLS = ("bash", "zsh", "tcsh")
_DEMO_FOLDER, _SANDBOX_FOLDER = Path("invox-demo"), Path("invox-sandbox")
_STATUSES = """\
exit status: 0 success; 1 a recording failed, would not be processed, or is unknown; 3 not running and
4 running, but not ready (status); 64 usage; 69 API unavailable; 70 internal error; 75 try later;
77 permission; 78 configuration"""


class _Version(argparse.Action):
    """Prints the versions that belong in a bug report."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        from invox_watcher.cli._source import clone_used  # noqa: PLC0415 - nothing else here needs them
        from invox_watcher.journal import SQLITE_VERSION  # noqa: PLC0415

        python = f"{platform.python_implementation()} {platform.python_version()}"
        print(f"invox-watcher {version()}")
        if (clone := clone_used()) is not None:
            print(clone)
        print(f"{python}, SQLite {SQLITE_VERSION}, {platform.platform()}")
        parser.exit()


class _Readings(argparse.Action):
    """Collects the sandbox's readings, and refuses those that don't exist or contradict each other."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _option: str | None = None,
    ) -> None:
        from invox_watcher.sandbox.readings import named  # noqa: PLC0415 - an extra

        chosen = (*getattr(namespace, self.dest), *values.split(","))
        try:
            named(chosen)
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, chosen)


class _ListReadings(argparse.Action):
    """Prints every reading of the sandbox with what differs in it."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        from invox_watcher.sandbox.readings import READINGS  # noqa: PLC0415 - an extra

        width = max(map(len, READINGS))
        for name, reading in READINGS.items():
            print(f"{name:{width}}  {reading.summary}")
        parser.exit()


def build() -> argparse.ArgumentParser:
    """The parser; `command` of its result is what to call."""
    parser = Parser(
        prog="invox-watcher",
        description="Watches a folder for dictations, has each transcribed by the Invox Medical API, and "
        "writes\nthe transcripts to an output folder.",
        epilog=f"Each command has its own --help, with examples.\n\n{_STATUSES}",
        formatter_class=Help,
    )
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, help="print the versions of everything and exit"
    )
    commands = Commands(parser)
    _add_daemon(commands)
    _add_transcribe(commands)
    _add_jobs(commands)
    _add_questions(commands)
    _add_repair(commands)
    _add_backup(commands)
    _add_journal(commands)
    _add_page(commands)
    _add_extras(commands)
    return parser


def _add_daemon(commands: Commands) -> None:
    run = commands.add(
        "run", "watch the inbox, in the foreground", call="_run:run",
        examples=["run", "run --once", "run --once --dry-run"],
        more="SIGTERM or Ctrl-C stops it within seconds; SIGHUP reloads the configuration.",
    )  # fmt: skip
    run.add_argument("--once", action="store_true", help="process what is in the inbox, then exit")
    run.add_argument(
        "--dry-run", action="store_true",
        help="with --once: only print what would be done; nothing is moved, written or sent",
    )  # fmt: skip
    commands.add(
        "start", "watch the inbox as a daemon, on hosts without systemd", call="_run:start",
        more="Returns once it is ready, or reports why it is not.", examples=["start"],
    )  # fmt: skip
    commands.add("stop", "stop the daemon, and wait until it has exited", call="_run:stop", examples=["stop"])
    commands.add(
        "status", "show whether the daemon is ready, what waits, and what needs you", call="_status:status",
        as_json=True,
        more="Exit status: 0 ready; 3 not running; 4 running, but not ready.",
        examples=["status", "status --json"],
    )  # fmt: skip
    check = commands.add(
        "check", "check the setup before the first recording", call="_run:check", as_json=True,
        more="Checks configuration, folders, journal, addresses, programs, clock, credentials and API, and "
        "reports what to do.\nRun it as the daemon's user. Missing folders are created.",
        examples=["check", "check --json", "check --try smith.wav"],
    )  # fmt: skip
    completed(
        check.add_argument(
            "--try", dest="trial", type=path, metavar="FILE",
            help="transcribe this recording, which is charged, and print each request and reply without any "
            "value, to be shown to the vendor",
        ),
        FILE,
    )  # fmt: skip


def _add_transcribe(commands: Commands) -> None:
    transcribe = commands.add(
        "transcribe", "print the transcript of one recording", call="_transcribe:transcribe",
        more="Needs api and credentials of the configuration, and uses no folders and no journal.",
        examples=["transcribe smith.wav", "transcribe smith.wav --format srt > smith.srt"],
    )  # fmt: skip
    completed(transcribe.add_argument("file", type=path, metavar="FILE", help="a recording"), FILE)
    transcribe.add_argument(
        "--format", choices=get_args(OutputFormat), default="txt",
        help="the format of the transcript (default: %(default)s)",
    )  # fmt: skip
    transcribe.add_argument(
        "--request-id", type=text, metavar="ID",
        help="get the result of an earlier run that was interrupted, without another upload",
    )  # fmt: skip


def _add_jobs(commands: Commands) -> None:
    jobs = commands.add(
        "jobs", "list recordings under way", call="_jobs:jobs", as_json=True,
        more="With --suspect, --since, --until or --name and no state, finished ones are listed too.",
        examples=[
            "jobs --watch", "jobs --failed", "jobs --all --since yesterday", "jobs --suspect --since 1d",
            "jobs --done --since 2026-11-01 --until 2026-11-07",
            "jobs --name 'ward3/*' --limit 20",
            "jobs --state waiting --state uploading --json",
        ],
    )  # fmt: skip
    _add_job_filters(jobs)
    jobs.add_argument(
        "--wide", action="store_true", help="print whole names on a terminal, however long the lines get"
    )
    jobs.add_argument("--watch", action="store_true", help="update the list continuously, until Ctrl-C")


def _add_job_filters(jobs: argparse.ArgumentParser) -> None:
    """Which recordings are listed."""
    jobs.add_argument("--all", action="store_true", help="include finished recordings")
    jobs.add_argument(
        "--state", action="append", choices=[str(state) for state in State], default=[], metavar="STATE",
        help="only recordings in this state (repeatable; one of %(choices)s)",
    )  # fmt: skip
    jobs.add_argument(
        "--failed", action="store_true",
        help="only failed recordings that are still in the failed folder and were not retried: they need you",
    )  # fmt: skip
    jobs.add_argument(
        "--done", action="append_const", dest="state", const="done", help="same as --state done"
    )
    jobs.add_argument(
        "--suspect",
        action="store_true",
        help="only recordings whose transcript may not be what was said, finished ones included",
    )
    jobs.add_argument(
        "--owed", action="store_true",
        help="what has not arrived at its target yet, or was refused: one line for each target",
    )  # fmt: skip
    jobs.add_argument(
        "--since", type=since, metavar="WHEN",
        help="only recordings received since then: 90m, 2h, 3d or 1w ago, today, yesterday, 2026-11-23, or "
        "2026-11-23T18:00Z",
    )  # fmt: skip
    jobs.add_argument(
        "--until", type=until, metavar="WHEN",
        help="only recordings received before then; if a day is given, until its end",
    )  # fmt: skip
    jobs.add_argument(
        "--name",
        type=glob,
        metavar="GLOB",
        help="only recordings whose path in the inbox, or file name, matches",
    )
    jobs.add_argument("--limit", type=positive, metavar="N", help="only the newest N")


def _add_questions(commands: Commands) -> None:
    show = commands.add(
        "show", "show everything about one recording", call="_show:show", as_json=True,
        examples=[
            "show 20261123t185056-9f2c41d07ab3", "show 9f2c", "show 9f2c --json", "show name:0b8e2f4d91ac",
        ],
    )  # fmt: skip
    show.add_argument("id", type=text, metavar="ID", help=f"{_ID_HELP}; or a name from the log, `name:...`")
    commands.add(
        "inbox", "list what is in the inbox and was not taken", call="_inbox:inbox", as_json=True,
        more="Each file with its stage, the reason, since when, and what to do. Works with and without a "
        "running daemon.",
        examples=["inbox", "inbox --json"],
    )  # fmt: skip
    explain = commands.add(
        "explain", "explain how files would be handled", call="_explain:explain", as_json=True,
        more="Moves and changes nothing. If files must be unchanged for a while, they are watched for some "
        "seconds.\nExit status: 0 all would be, or are, processed; 1 one is not, or not yet.",
        examples=[
            "explain /srv/dictation/inbox/ward3/smith.wav", "explain /srv/dictation/inbox",
            "explain letter.wav --json", "explain name:0b8e2f4d91ac",
        ],
    )  # fmt: skip
    completed(
        explain.add_argument(
            "file", nargs="+", type=path, metavar="FILE",
            help="a file in the inbox or elsewhere, a folder with all that is in it, or a name from the log",
        ),
        FILE,
    )  # fmt: skip


def _add_repair(commands: Commands) -> None:
    retry = commands.add(
        "retry", "return failed recordings to the inbox", call="_retry:retry",
        more="Never overwrites a file: if a name is in use, the recording gets a numbered one.",
        examples=[
            "retry 9f2c", "retry 9f2c 41d0", "retry --code transcription_failed", "retry --all",
            "retry 9f2c --target ris", "retry --all --target ris",
        ],
    )  # fmt: skip
    retry.add_argument("id", nargs="*", type=text, metavar="ID", help=_ID_HELP)
    retry.add_argument(
        "--all", action="store_true", help="every recording in the failed folder for which a retry can help"
    )
    retry.add_argument(
        "--code", metavar="CODE", help="every recording in the failed folder with this code, hopeless or not"
    )
    retry.add_argument(
        "--target", metavar="NAME",
        help="send the transcripts to this target again instead: nothing is moved or uploaded",
    )  # fmt: skip
    forget = commands.add(
        "forget", "give up what a target is owed", call="_deliveries:forget",
        more="For a target that was removed from the configuration, or that will never take what it is owed. "
        "Transcripts in the outbox stay.",
        examples=["forget old-ris"],
    )  # fmt: skip
    forget.add_argument("target", type=text, metavar="NAME")
    hooks = commands.add(
        "hooks", "run the configured commands with an example recording", call="_hooks:hooks",
        more="Prints what each command gets, what it prints, and how it ended. Its files are in a temporary "
        "folder.\nExit status: 0 all succeeded; 1 one failed.",
        examples=["hooks test", "hooks test on_failed"],
    )  # fmt: skip
    hooks.add_argument("what", choices=["test"])
    hooks.add_argument("which", nargs="?", choices=["on_done", "on_failed"], help="only this one")


def _add_backup(commands: Commands) -> None:
    backup = commands.add(
        "backup", "write what the state directory holds to one file", call="_backup:backup",
        more="A tar archive that contains the journal as it is at one moment, checked, and the audit log. "
        "The daemon may run meanwhile.\nAn existing FILE is replaced, once the new one is complete. A "
        "journal in a database is not in it.",
        examples=["backup /var/backups/invox-watcher.tar"],
    )  # fmt: skip
    completed(backup.add_argument("file", type=path, metavar="FILE", help="the archive"), FILE)


def _add_journal(commands: Commands) -> None:
    journal = commands.add(
        "journal", "copy the journal to a database, or back", call="_journal:journal",
        more="Copies all of it in one transaction, and compares both afterwards. Each PLACE is a state "
        "directory, the address of a PostgreSQL database, or the word state.directory or state.url for what "
        "the configuration names. No daemon may run with either of them, and the target must be empty.",
        examples=[
            "journal copy --from state.directory --to state.url",
            "journal copy --from state.url --to /var/lib/invox-watcher",
        ],
    )  # fmt: skip
    journal.add_argument("what", choices=["copy"])
    journal.add_argument(
        "--from", dest="source", type=text, required=True, metavar="PLACE", help="the journal that is read"
    )
    journal.add_argument(
        "--to", dest="target", type=text, required=True, metavar="PLACE", help="where it is written"
    )


def _add_page(commands: Commands) -> None:
    page = commands.add(
        "page", "show recordings and transcripts in a browser, or say who may", call="_page:page",
        more="The daemon does so by itself if page.listen is set; alone, the page runs in the foreground.\n"
        "user NAME: adds a user to page.users_file, or changes the password; with --role, --profile or "
        "--all-profiles it changes only those. A new user may see names and states of all profiles.",
        examples=[
            "page", "page user anna --role listen --profile ward3", "page user anna --remove",
        ],
    )  # fmt: skip
    page.add_argument("what", nargs="?", choices=["user"], help="change a user instead")
    page.add_argument("name", nargs="?", type=text, metavar="NAME", help="the user's name")
    page.add_argument(
        "--role", action="append", choices=["see", "listen", "act"], default=[],
        help="see: names and states; listen: transcripts and recordings, too; act: retry, send again "
        "(repeatable)",
    )  # fmt: skip
    page.add_argument(
        "--profile", action="append", type=text, default=[], metavar="NAME",
        help="only recordings of this profile (repeatable)",
    )  # fmt: skip
    page.add_argument("--all-profiles", action="store_true", help="recordings of all profiles again")
    page.add_argument(
        "--no-password", action="store_true",
        help="without a password, and delete one that there is: a web server signs this user in "
        "(page.user_header)",
    )  # fmt: skip
    page.add_argument("--remove", action="store_true", help="remove the user")


def _add_extras(commands: Commands) -> None:
    config = commands.add(
        "config", "print the configuration in effect, an example, or the JSON schema", call="_extras:config",
        as_json=True,
        more="show: every key with its value, and where that is from: a line of the file, an environment "
        "variable, a credential, or the default. Secrets are masked.\nexample: every key with its meaning "
        "and default. schema: for editors that check while you type.",
        examples=[
            "config show", "config show --json", "config example > config.yaml",
            "config schema > schema.json",
        ],
    )  # fmt: skip
    config.add_argument("what", choices=["show", "example", "schema"])
    completion = commands.add(
        "completion", "print a script that completes commands in a shell", call="_extras:completion",
        config=False,
        examples=["completion bash > ~/.local/share/bash-completion/completions/invox-watcher"],
    )  # fmt: skip
    completion.add_argument("shell", choices=_SHELLS)
    about = commands.add(
        "help", "show this help, or that of a command", call="_extras:help", config=False,
        examples=["help", "help jobs"],
    )  # fmt: skip
    about.add_argument("about", nargs="*", metavar="COMMAND", help="the command")
    sandbox = commands.add(
        "sandbox", "run a simulated API, for trials", call="_extras:sandbox",
        config=False,
        examples=["sandbox", "sandbox --folder /tmp/trial --port 9000", "sandbox --reading paths-v1,gzip"],
    )  # fmt: skip
    _add_folder(sandbox, _SANDBOX_FOLDER)
    sandbox.add_argument(
        "--port", type=port, default=8788, help="the port to listen on (default: %(default)s)"
    )
    _add_webhook(sandbox)
    sandbox.add_argument(
        "--reading", dest="readings", action=_Readings, default=(), metavar="NAME[,NAME...]",
        help="behave as another reading of the vendor's pages (repeatable)",
    )  # fmt: skip
    sandbox.add_argument("--list-readings", action=_ListReadings, nargs=0, help="print the readings and exit")
    demo = commands.add(
        "demo", "transcribe real speech with a simulated API, without any setup", call="_extras:demo",
        config=False, examples=["demo", "demo --webhook", "demo --page"],
    )  # fmt: skip
    _add_folder(demo, _DEMO_FOLDER)
    _add_webhook(demo)
    demo.add_argument(
        "--page", action="store_true",
        help="keep the daemon and its page running after the last recording, until Ctrl-C",
    )  # fmt: skip


_ID_HELP = "a job's id as shown by `jobs`, or the beginning of it or of its second half"


def _add_folder(parser: argparse.ArgumentParser, default: Path) -> None:
    folder = parser.add_argument(
        "--folder", type=path, default=default, help="the folder to use (default: ./%(default)s)"
    )
    completed(folder, DIRECTORY)


def _add_webhook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook",
        action="store_true",
        help="have results sent to the daemon instead of polling for them",
    )
