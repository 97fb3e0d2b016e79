"""This machine: files with secrets, the state directory, the address, the log, the programs of hooks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from invox_watcher.assembly import decoder_of, fleet_to_join
from invox_watcher.config import Config, secret_files
from invox_watcher.diagnostics.check._addresses import address_to_listen_on, of_another
from invox_watcher.diagnostics.check._finding import Finding, lasting, warning
from invox_watcher.diagnostics.daemon_status import query_daemon
from invox_watcher.errors import ExitStatus, FolderError, InvoxError, JournalError
from invox_watcher.files import check_state_directory, prepare_state
from invox_watcher.formats.decoder import INSTALL
from invox_watcher.host import User, owner_of
from invox_watcher.invox import usable_layouts
from invox_watcher.job import ACTIVE, State
from invox_watcher.journal import FILENAME, Journal, Server
from invox_watcher.layout import database_of


def configuration(source: Path | None) -> Iterator[Finding]:
    """May the daemon's user read it? It has been loaded, but perhaps as root."""
    if source is not None and not _readable(source):
        yield _unreadable("configuration", source)
    else:
        yield Finding("configuration", seen=str(source or ""))


def credentials_files(config: Config, source: Path | None) -> Iterator[Finding]:
    """Can anyone but owner and group read a file with a secret?"""
    given = config.credentials
    secrets = (given.app_id_file, given.api_key_file, given.app_secret_file, config.intake.ds2_passwords_file)
    files = [file for file in (*secrets, config.state.password_file) if file]
    files += [file for target in config.targets.values() for file in secret_files(target)]
    if source is not None and _contains_a_secret(source, config):
        files.append(source)
    for file in files:
        if not _readable(file):
            yield _unreadable("credentials files", file)
        elif os.stat(file).st_mode & stat.S_IROTH:
            problem = f"anyone on this machine can read {file} ({owner_of(file)}), which contains credentials"
            yield warning("credentials files", problem, f"chmod o-rwx {file}")
        else:
            yield Finding("credentials files", seen=f"{file} ({owner_of(file)})")


def formats(config: Config) -> Iterator[Finding]:
    """Does the decoder of other formats work here, lock included? It is an extra."""
    decoder = decoder_of(config)
    if not decoder.is_installed:
        wanted = [
            key
            for key, given in (
                ("intake.on_truncated", config.intake.on_truncated == "send"),
                ("intake.ds2_passwords_file", config.intake.ds2_passwords_file is not None),
            )
            if given
        ]
        if wanted:
            yield warning(
                "formats", f"{wanted[0]} has no effect: no decoder is installed", f"Install it: {INSTALL}."
            )
        else:
            yield Finding("formats", seen="only those that the API takes; no decoder is installed")
        return
    try:
        decoder.try_out()
    except InvoxError as error:
        yield warning("formats", f"nothing can be decoded here: {error.message}", error.hint)
    else:
        yield Finding("formats", seen="others are decoded, in a locked process")


def _contains_a_secret(source: Path, config: Config) -> bool:
    secrets = (config.credentials.api_key, config.credentials.app_secret)
    try:
        text = source.read_text("utf-8", "replace")
    except OSError:
        return False
    return any(
        secret.get_secret_value() in text for secret in secrets if secret and secret.get_secret_value()
    )


def _readable(file: Path) -> bool:
    return os.access(file, os.R_OK, effective_ids=True)


def _unreadable(name: str, file: Path) -> Finding:
    user = User.current().name
    hint = f"Let that user's group read it and enter its parents: chgrp {user} {file} && chmod g+r {file}"
    return Finding(name, "failed", f"{user} may not read {file}", hint, ExitStatus.CONFIGURATION)


def state(config: Config) -> Iterator[Finding]:
    """Can the state directory be used, and does it survive a restart?"""
    directory = config.state.directory
    if os.path.isdir(directory):
        _require_ours(directory, directory)
        for path in sorted(directory.iterdir()):
            _require_ours(path, directory)
    check_state_directory(directory)
    prepare_state(directory, config.folders.inbox)
    yield lasting("state", directory)


def _require_ours(path: Path, directory: Path) -> None:
    user, wanted = User.current(), os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    if not user.may(path, wanted):
        raise FolderError(
            f"state.directory: {user.name} may not write {path}, which is {owner_of(path)}",
            hint=f"The daemon may have run as another user. chown -R {user.name} {directory}",
        )


def journal(config: Config) -> Iterator[Finding]:
    """Can the journal be opened, is it intact, and is it the one to use?"""
    database = database_of(config)
    none_yet = Finding("journal", seen=f"{_in(database)}none yet: the first start creates it")
    if database is None and not (config.state.directory / FILENAME).exists():
        yield none_yet
        return
    fleet_to_join(config)
    try:
        opened = Journal(config.state.directory, create=False, server=database)
    except JournalError as error:
        if error.code == "journal_missing":
            yield none_yet
            return
        if error.code != "journal_outdated":
            raise
        yield warning("journal", error.message, error.hint)
        return
    with closing(opened):
        opened.require_not_moved()
        opened.verify()
        counts = opened.counts()
        in_plain = opened.fleet is not None and opened.fleet.is_read_on_the_network()
    under_way, done, failed = (
        sum(counts.get(state, 0) for state in states) for states in (ACTIVE, {State.DONE}, {State.FAILED})
    )
    seen = f"intact; {under_way} under way, {done} done, {failed} failed"
    yield Finding("journal", seen=f"{_in(database)}{seen}")
    if in_plain:
        problem = f"{opened.name} is reached without TLS: names and words can be read on the network"
        yield warning("journal", problem, "Add ?sslmode=verify-full to state.url; see docs/database.md.")


def _in(database: Server | None) -> str:
    return "" if database is None else f"in {database.name}: "


def log_file(config: Config) -> Iterator[Finding]:
    """Can the log be written?"""
    file, user = config.logging.file, User.current()
    if file is None:
        return
    place, wanted = (file, os.W_OK) if file.exists() else (file.parent, os.W_OK | os.X_OK)
    if not place.exists():
        raise FolderError(
            f"logging.file: there is no folder {place}", hint="Create it for the daemon's user."
        )
    if not user.may(place, wanted):
        problem = f"logging.file: {user.name} may not write {place}, which is {owner_of(place)}"
        raise FolderError(problem, hint=f"Make the daemon's user its owner: chown {user.name} {place}")
    yield Finding("logging.file", seen=str(file))


def hooks(config: Config) -> Iterator[Finding]:
    """Do the programs exist that are to be run after a recording?"""
    user = User.current()
    for key, command in (("on_done", config.hooks.on_done), ("on_failed", config.hooks.on_failed)):
        if command is None:
            continue
        name, program = f"hooks.{key}", Path(command[0])
        if not program.is_file():
            yield warning(name, f"there is no program {program}", "Install it, or correct its path.")
        elif not user.may(program, os.X_OK):
            problem = f"{user.name} may not run {program}, which is {owner_of(program)}"
            yield warning(name, problem, f"chmod a+rx {program}")
        else:
            yield Finding(name, seen=str(program))


def listen(config: Config) -> Iterator[Finding]:
    """Can the address be listened on, and can other machines reach it?"""
    address = config.http.address
    if address is None:
        yield Finding("http.listen", seen="none: no /readyz, /metrics or webhooks")
        return
    yield from address_to_listen_on("http.listen", str(config.http.listen), address, lambda: _in_use(config))


def _in_use(config: Config) -> Finding:
    answer = query_daemon(config.state.directory)
    if answer.asked and answer.address == config.http.address:
        return Finding("http.listen", seen=f"{config.http.listen}: the daemon answers there")
    if answer.daemon is not None:
        problem = f"{config.http.listen} is in use, and the daemon, which is running, does not answer there"
        return warning(
            "http.listen", problem, "If the address is new in the configuration, another program uses it."
        )
    return of_another("http.listen", str(config.http.listen))


def webhooks(config: Config) -> Iterator[Finding]:
    """Is there anything in the way of webhooks?"""
    webhook, secret = config.webhook, config.credentials.app_secret
    if not webhook.enabled:
        return
    in_order = True
    for wrong, problem, hint in (
        (
            (webhook.public_url or "").startswith("http:"),
            "webhook.public_url is plain http: transcripts could be read on the network",
            "Put a web server with TLS in front.",
        ),
        (
            config.http.listen is None,
            "http.listen is null, so no webhook can arrive",
            "Set it to an address and port.",
        ),
        (
            secret is not None and len(usable_layouts(secret.get_secret_value())) == 1,
            "the APP Secret is not 16, 24 or 32 bytes long: it can check only one of the two layouts",
            "Ignore this if your account's signatures begin with U2FsdGVkX1. Otherwise check the secret.",
        ),
    ):
        if wrong:
            in_order = False
            yield warning("webhooks", problem, hint)
    if in_order:
        yield Finding("webhooks", seen=f"to {webhook.public_url}")
