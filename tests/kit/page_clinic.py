"""A clinic whose page is a process of its own, with users of several rights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from invox_watcher.accounts import Role, User, write_users
from tests.kit.browser import Browser
from tests.kit.clinic import Clinic, free_port, stop
from tests.kit.waiting import wait_for

PASSWORD = "correct horse battery"
# Of the password above, made by bcrypt with the least cost that is taken, so that tests are quick.
HASH = "$2b$10$Y6zijH0igfw24/7SXSOCKO9zOxWUNh./WFyN2PrTcGnXFqZaQXvxW"
PROXY = "127.0.0.9"  # trusted


def users() -> dict[str, User]:
    """anna: everything; nora: everything of ward 3; sam: see; paul: see ward 4, named by the proxy."""
    wards = frozenset({"ward3"}), frozenset({"ward4"})
    people = [
        User("anna", HASH, frozenset(Role), None),
        User("nora", HASH, frozenset({Role.SEE, Role.LISTEN, Role.ACT}), wards[0]),
        User("sam", HASH, frozenset({Role.SEE}), None),
        User("paul", None, frozenset({Role.SEE}), wards[1]),
    ]
    return {one.name: one for one in people}


def page_section(root: Path, **changes: Any) -> dict[str, Any]:
    """The section `page` of such a clinic; its users file is written."""
    file = root / "users.yaml"
    root.mkdir(parents=True, exist_ok=True)
    write_users(file, users())
    section = {
        "listen": f"127.0.0.1:{free_port()}",
        "users_file": str(file),
        "user_header": "X-Remote-User",
        "trusted_proxies": [PROXY],
    }
    return section | changes


@contextlib.contextmanager
def page_of(clinic: Clinic, listen: str) -> Iterator[Browser]:
    """The page of `clinic` as `invox-watcher page`, and a browser that nobody has signed in with."""
    log = clinic.root / "page.log"
    process = clinic.launch("page", stderr=log)
    browser = Browser(at_of(listen))
    try:
        wait_for("the page answers", lambda: answers(browser) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield browser
        assert stop(process) == 0
    finally:
        process.kill()
        process.wait()


def at_of(listen: str) -> tuple[str, int] | Path:
    """Where a browser finds what listens on `listen`."""
    if listen.startswith("unix:"):
        return Path(listen.removeprefix("unix:"))
    host, _, port = listen.rpartition(":")
    return host, int(port)


def answers(browser: Browser) -> bool:
    """Whether the page answers by now."""
    with contextlib.suppress(OSError):
        return browser.get("/sign-in").status in (200, 401)
    return False
