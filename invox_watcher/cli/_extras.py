"""`config`, `completion`, `sandbox`, `demo`: the commands that need no configuration."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

import shtab

from invox_watcher import logs
from invox_watcher.cli._common import UsageError, config_file
from invox_watcher.cli._parser import build
from invox_watcher.config import Setting, example_yaml, json_schema, rendered, settings
from invox_watcher.errors import ExitStatus, FolderError
from invox_watcher.logs import printable

_WEBHOOK_LISTEN = "127.0.0.1:8787"


def config(options: argparse.Namespace) -> ExitStatus:
    """Print the example configuration, its JSON schema, or what is in effect."""
    if options.what != "show" and (options.config is not None or options.json):
        raise UsageError("--config and --json belong to `config show`.")
    if options.what == "example":
        print(example_yaml(), end="")
    elif options.what == "schema":
        print(json.dumps(json_schema(), indent=2))
    else:
        _show(settings(config_file(options)), options)
    return ExitStatus.OK


def help(options: argparse.Namespace) -> ExitStatus:
    """Print the help of the program, or of one command."""
    build().parse_args([*options.about, "--help"])
    return ExitStatus.OK


def _show(found: list[Setting], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    else:
        print(f"# {printable(config_file(options))}\n{rendered(found)}", end="")


def completion(options: argparse.Namespace) -> ExitStatus:
    """Print a script that completes invox-watcher's commands in a shell."""
    print(shtab.complete(build(), shell=options.shell))
    return ExitStatus.OK


def sandbox(options: argparse.Namespace) -> ExitStatus:
    """Run the simulated API until Ctrl-C."""
    from invox_watcher.sandbox.configuration import client_configuration  # noqa: PLC0415 - an extra
    from invox_watcher.sandbox.server import serve  # noqa: PLC0415
    from invox_watcher.sandbox.settings import SandboxSettings  # noqa: PLC0415

    root: Path = options.folder.absolute()
    settings = SandboxSettings(data_directory=root / "sandbox", port=options.port, readings=options.readings)
    webhook = {"listen": _WEBHOOK_LISTEN, "webhook_url": f"http://{_WEBHOOK_LISTEN}/webhook"}

    def ready(base_url: str) -> None:
        written = root / "config.yaml"
        extra = webhook if options.webhook else {}
        written.unlink(missing_ok=True)  # one that others may read would stay so
        written.write_text(client_configuration(settings, base_url, root, **extra))
        print(f"The simulated API listens on {base_url}. A configuration for it, in {written}:\n")
        print(written.read_text())
        print(f"In another terminal:  invox-watcher run --config {written}")
        print(f"Then copy a recording to {root / 'inbox'}. Ctrl-C stops the sandbox.", flush=True)

    os.umask(0o077)  # for recordings and credentials
    root.mkdir(parents=True, exist_ok=True)
    logs.configure(format="console")
    try:
        serve(settings, ready)
    except (OSError, OverflowError) as error:  # OverflowError: a reading takes the port above it, too
        problem = getattr(error, "strerror", None) or error
        raise FolderError(f"The sandbox can't listen: {problem}", hint="Choose another --port.") from None
    return ExitStatus.OK


def demo(options: argparse.Namespace) -> ExitStatus:
    """Transcribe real recordings with the simulated API."""
    from invox_watcher.demo import run_demo  # noqa: PLC0415 - an extra

    return run_demo(options.folder.absolute(), webhook=options.webhook, stay=options.page)
