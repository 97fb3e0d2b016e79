"""What `check` does: it tests everything that a run needs, and says for each problem what to do.

Missing folders are created, as by the daemon. No recording is touched, and no call of the API costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from invox_watcher.config import Config
from invox_watcher.diagnostics.check._api import api, ca_bundle, proxy
from invox_watcher.diagnostics.check._finding import Finding
from invox_watcher.diagnostics.check._folders import (
    completeness,
    folders,
    recordings,
    space,
    watching,
)
from invox_watcher.diagnostics.check._host import (
    configuration,
    credentials_files,
    formats,
    hooks,
    journal,
    listen,
    log_file,
    state,
    webhooks,
)
from invox_watcher.diagnostics.check._page import page
from invox_watcher.diagnostics.check._profiles import profiles
from invox_watcher.diagnostics.check._targets import targets
from invox_watcher.diagnostics.check._templates import templates
from invox_watcher.errors import ExitStatus, InvoxError

# Checks that are skipped if one of these failed before: they could only report its consequences.
_NEEDED = {
    "journal": {"state"},
    "inbox": {"folders"},
    "watch": {"folders"},
    "complete files": {"folders", "state"},
    "free space": {"folders", "state"},
}


def findings(config: Config, source: Path | None = None) -> Iterator[Finding]:
    """Check everything that `config` names, in the order in which problems are best fixed, one by one.

    `source` is the file it was read from.
    """
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("configuration", lambda: configuration(source)),
        ("credentials files", lambda: credentials_files(config, source)),
        ("state", lambda: state(config)),
        ("journal", lambda: journal(config)),
        ("folders", lambda: folders(config)),
        ("inbox", lambda: recordings(config)),
        ("watch", lambda: watching(config)),
        ("complete files", lambda: completeness(config)),
        ("free space", lambda: space(config)),
        ("logging.file", lambda: log_file(config)),
        ("formats", lambda: formats(config)),
        ("profiles", lambda: profiles(config)),
        ("templates", lambda: templates(config)),
        ("hooks", lambda: hooks(config)),
        ("http.listen", lambda: listen(config)),
        ("webhooks", lambda: webhooks(config)),
        ("page", lambda: page(config)),
        ("api.ca_bundle", lambda: ca_bundle(config)),
        ("api.proxy", lambda: proxy(config)),
        ("API", lambda: api(config)),
        ("targets", lambda: targets(config)),
    ]
    failed: set[str] = set()
    for name, check in checks:
        if not failed.isdisjoint(_NEEDED.get(name, ())):
            continue
        for finding in _found(name, check):
            if finding.level == "failed":
                failed.add(finding.check.partition(".")[0])
            yield finding


def _found(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except InvoxError as error:
        yield Finding(name, "failed", error.message, error.hint, error.exit_status)
    except OSError as error:
        problem = f"{error.filename or 'a file'} can't be examined: {error.strerror}"
        if isinstance(error, PermissionError):
            yield Finding(name, "failed", problem, "Run it as the daemon's user.", ExitStatus.PERMISSION)
        else:
            yield Finding(
                name, "failed", problem, "Check that its disk or share is mounted.", ExitStatus.TRY_LATER
            )
