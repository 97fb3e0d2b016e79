"""The command line: parse, call, print, exit status. With `demo`, the only module that prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from invox_watcher import __version__, events
from invox_watcher.errors import ExitStatus, FolderError, InvoxError
from invox_watcher.events import printable
from invox_watcher.job import ACTIVE, Failure, Job, State, rfc3339

if TYPE_CHECKING:
    from invox_watcher.config import Config

CONFIG_VARIABLE = "INVOX_WATCHER_CONFIG"
_DEFAULT_CONFIG = Path("/etc/invox-watcher/config.yaml")
_DEMO_FOLDER = Path("invox-demo")
_WEBHOOK_LISTEN = "127.0.0.1:8787"


class _UsageError(InvoxError):
    """What was asked for can't be done, whatever the state of things: the person has to ask otherwise."""

    code = "usage"
    exit_status = ExitStatus.USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status. Every error of ours is one message on standard error."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # names may not be UTF-8
    events.configure(format="console", level="warning")  # standard output belongs to what a command prints
    try:
        return int(options.command(options))
    except InvoxError as error:
        print(f"invox-watcher: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return int(error.exit_status)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: not an error
        return 0
    except Exception as error:  # noqa: BLE001 - its text may quote a name, an address or a word
        traceback.print_tb(error.__traceback__)
        print(f"invox-watcher: a defect: {type(error).__name__}", file=sys.stderr)
        return int(ExitStatus.SOFTWARE)


# ---- run ---------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> ExitStatus:
    from invox_watcher.daemon import Daemon  # noqa: PLC0415 - `--help` and `config` need none of it

    config = _load(options)
    logging = config.logging
    events.configure(format=logging.format, level=logging.level, filenames=logging.filenames)
    return Daemon(config).run(once=options.once)


def _check(options: argparse.Namespace) -> ExitStatus:
    from invox_watcher import check  # noqa: PLC0415

    found = check.findings(_load(options))
    status = next((finding.status for finding in found if finding.status), ExitStatus.OK)
    if options.json:
        rows = [dataclasses.asdict(finding) for finding in found]
        print(json.dumps(rows, indent=2))
        return status
    for finding in found:
        print(f"{finding.level:<7}  {finding.check}" + (f": {finding.problem}" if finding.problem else ""))
        if finding.hint:
            print(f"         {finding.hint}")
    return status


# ---- the journal -------------------------------------------------------------------------------------------


def _jobs(options: argparse.Namespace) -> ExitStatus:
    states = [State(options.state)] if options.state else (list(State) if options.all else list(ACTIVE))
    journal = _journal(_load(options, credentials=False))
    jobs = journal.jobs(states, limit=options.limit)
    if options.json:
        print(json.dumps([_job_as_json(job) for job in jobs], indent=2))
        return ExitStatus.OK
    for job in jobs:
        reason = f"  {job.failure.code}" if job.failure else ""
        print(f"{job.id}  {job.state:<11}  {_local(job.received_at)}  {printable(job.path)}{reason}")
    if not jobs and not (options.all or options.state):
        counts = journal.counts()
        print(f"Nothing under way. done: {counts.get(State.DONE, 0)}, failed: {counts.get(State.FAILED, 0)}.")
    return ExitStatus.OK


def _show(options: argparse.Namespace) -> ExitStatus:
    journal = _journal(_load(options, credentials=False))
    job = _find(journal.get(options.id), options.id)
    history = journal.history(job.id)
    if options.json:
        moments = [dataclasses.asdict(moment) | {"at": rfc3339(moment.at)} for moment in history]
        print(json.dumps(_job_as_json(job) | {"history": moments}, indent=2))
        return ExitStatus.OK
    for name, value in (_facts(job) | _reason(job.failure)).items():
        if value not in (None, 0, ""):
            print(f"{name:<17} {printable(_local(value) if isinstance(value, datetime) else value)}")
    for moment in history:
        detail = " ".join(f"{key}={printable(value)}" for key, value in moment.detail.items())
        print(f"{_local(moment.at)}  {moment.state:<11}  {detail}".rstrip())
    return ExitStatus.OK


def _retry(options: argparse.Namespace) -> ExitStatus:
    from invox_watcher.daemon import folders_of  # noqa: PLC0415

    config = _load(options, credentials=False)
    journal, folders = _journal(config), folders_of(config)
    if options.all:
        failed = journal.jobs([State.FAILED])
        latest = {job.filed_as: job for job in failed if _lies_in_failed(job, config)}  # one file, one retry
        jobs = list(latest.values())
    else:
        jobs = [_find(journal.get(options.id), options.id)]
        if jobs[0].state is not State.FAILED:
            raise _UsageError(f"{jobs[0].id} is {jobs[0].state}, not failed.")
    for job in jobs:
        name = folders.move_back(job.filed_as or job.path)
        print(f"{job.id}: back in the inbox as {printable(name)}")
    if not jobs:
        print("No failed recording lies in the failed folder.")
    return ExitStatus.OK


def _lies_in_failed(job: Job, config: Config) -> bool:
    return (config.folders.failed / (job.filed_as or job.path)).exists()


# ---- configuration, sandbox, demo --------------------------------------------------------------------------


def _config(options: argparse.Namespace) -> ExitStatus:
    from invox_watcher import config  # noqa: PLC0415

    if options.what == "example":
        print(config.example_yaml(), end="")
    else:
        print(json.dumps(config.json_schema(), indent=2))
    return ExitStatus.OK


def _sandbox(options: argparse.Namespace) -> ExitStatus:
    from invox_watcher.sandbox.configuration import client_configuration  # noqa: PLC0415
    from invox_watcher.sandbox.server import serve  # noqa: PLC0415
    from invox_watcher.sandbox.settings import SandboxSettings  # noqa: PLC0415

    root: Path = options.folder.absolute()
    settings = SandboxSettings(data_directory=root / "sandbox", port=options.port)
    webhook = {"listen": _WEBHOOK_LISTEN, "webhook_url": f"http://{_WEBHOOK_LISTEN}/webhook"}

    def ready(base_url: str) -> None:
        configuration = root / "config.yaml"
        extra = webhook if options.webhook else {}
        configuration.write_text(client_configuration(settings, base_url, root, **extra))
        print(f"The stand-in API listens on {base_url}. Its configuration, in {configuration}:\n")
        print(configuration.read_text())
        print(f"In another terminal:  invox-watcher run --config {configuration}")
        print(f"Then put a recording into {root / 'inbox'}. Ctrl-C stops the sandbox.", flush=True)

    root.mkdir(parents=True, exist_ok=True)
    events.configure(format="console")
    try:
        serve(settings, ready)
    except OSError as error:
        raise FolderError(
            f"The sandbox can't listen: {error.strerror or error}", hint="Choose another --port."
        ) from None
    return ExitStatus.OK


def _demo(options: argparse.Namespace) -> ExitStatus:
    from invox_watcher.demo import run_demo  # noqa: PLC0415

    return run_demo(options.folder.absolute(), webhook=options.webhook)


def _load(options: argparse.Namespace, *, credentials: bool = True) -> Config:
    from invox_watcher.config import load  # noqa: PLC0415

    path = options.config or Path(os.environ.get(CONFIG_VARIABLE) or _DEFAULT_CONFIG)
    return load(path, credentials=credentials)


def _journal(config: Config) -> Any:
    from invox_watcher.store import Journal  # noqa: PLC0415

    return Journal(config.state.directory, create=False)


def _find(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise _UsageError(f"No job has the id {job_id}.", hint="`invox-watcher jobs --all` lists them.")
    return job


def _job_as_json(job: Job) -> dict[str, Any]:
    """A job for scripts: times in UTC as RFC 3339."""
    fields = {
        name: rfc3339(value) if isinstance(value, datetime) else value for name, value in _facts(job).items()
    }
    return fields | {"failure": dataclasses.asdict(job.failure) if job.failure else None}


def _facts(job: Job) -> dict[str, Any]:
    """What is known of a job, but for its failure and what only the daemon can use."""
    internal = ("device", "inode", "mtime_ns", "refusal", "failure")
    return {name: value for name, value in vars(job).items() if name not in internal}


def _reason(failure: Failure | None) -> dict[str, str]:
    """Why a recording failed, in the words of its error file; nothing where it did not."""
    if failure is None:
        return {}
    return {
        "failed_at_stage": failure.stage,
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
    }


def _local(time: datetime) -> str:
    """The time here, with its offset from UTC: `2026-11-23 19:50:56+01:00`."""
    return time.astimezone().isoformat(sep=" ", timespec="seconds")


# ---- the parser --------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse's own exit status for a wrong command line is 2; the contract says EX_USAGE."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitStatus.USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="invox-watcher",
        description="Takes dictations from an inbox through Invox Medical's API to an outbox.",
        epilog="Exit status: 0 well; 1 some recording failed (run --once); 64 usage; 69 API unavailable; "
        "70 a defect; 75 try later; 77 permission; 78 configuration.",
    )
    parser.add_argument("--version", action="version", version=f"invox-watcher {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    configured = _Parser(add_help=False)
    configured.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the configuration (default: ${CONFIG_VARIABLE}, else {_DEFAULT_CONFIG})",
    )
    as_json = _Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON, for scripts")

    run = commands.add_parser("run", parents=[configured], help="watch the inbox, in the foreground")
    run.add_argument("--once", action="store_true", help="take what is in the inbox, finish it, and exit")
    run.set_defaults(command=_run)
    check = commands.add_parser(
        "check",
        parents=[configured, as_json],
        help="try configuration, folders, state directory, port, credentials and API",
    )
    check.set_defaults(command=_check)
    _add_journal_commands(commands, configured, as_json)
    config = commands.add_parser("config", help="print the example configuration or its JSON schema")
    config.add_argument("what", choices=["example", "schema"])
    config.set_defaults(command=_config)
    sandbox = commands.add_parser("sandbox", help="run a stand-in for the vendor's API, to try things on")
    _add_folder(sandbox)
    sandbox.add_argument("--port", type=int, default=8788, help="where it listens (default: %(default)s)")
    _add_webhook(sandbox)
    sandbox.set_defaults(command=_sandbox)
    demo = commands.add_parser("demo", help="see real speech become transcripts, with nothing to set up")
    _add_folder(demo)
    _add_webhook(demo)
    demo.set_defaults(command=_demo)
    return parser


def _add_journal_commands(
    commands: argparse._SubParsersAction[_Parser],
    configured: _Parser,
    as_json: _Parser,
) -> None:
    jobs = commands.add_parser("jobs", parents=[configured, as_json], help="list recordings under way")
    which = jobs.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="those that are finished as well")
    which.add_argument("--state", choices=[str(state) for state in State], help="those in this state")
    jobs.add_argument("--limit", type=_positive, metavar="N", help="only the newest N")
    jobs.set_defaults(command=_jobs)
    show = commands.add_parser("show", parents=[configured, as_json], help="the life of one recording")
    show.add_argument("id", help="the job's id, as `jobs` prints it")
    show.set_defaults(command=_show)
    retry = commands.add_parser(
        "retry", parents=[configured], help="put failed recordings into the inbox again"
    )
    what = retry.add_mutually_exclusive_group(required=True)
    what.add_argument("id", nargs="?", help="the job's id, as the error file and `jobs` print it")
    what.add_argument("--all", action="store_true", help="every recording in the failed folder")
    retry.set_defaults(command=_retry)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=_DEMO_FOLDER, help="where everything lies (default: ./%(default)s)"
    )


def _add_webhook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook",
        action="store_true",
        help="have the results sent to the daemon instead of asking for them",
    )


if __name__ == "__main__":
    sys.exit(main())
