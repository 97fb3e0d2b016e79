"""Finds the credentials: in the configuration (usually as `${VAR}`), in separate files, or from systemd.

Messages about a credential name its key and its source, never its value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from invox_watcher.config._document import Problems

_SECTION = "credentials"


def with_credentials(
    section: Mapping[str, object], names: Iterable[str], environ: Mapping[str, str], problems: Problems
) -> dict[str, object]:
    """The section with every credential of `names` filled in; "" for a missing one, which is reported.

    A credential in the configuration takes precedence over systemd's, which is read (from the file of that
    name in $CREDENTIALS_DIRECTORY, see systemd.exec(5)) only if the configuration has none.
    """
    found = dict(section)
    for name in names:
        value, file = section.get(name), section.get(f"{name}_file")
        if value is not None and file is not None:
            problems.withdraw((_SECTION, name))  # such as the example's variable, not set
            problems.add((_SECTION, f"{name}_file"), f"{name} is set as well: remove one of the two")
        elif value is not None:
            _check(value, name, problems)
        else:
            found[name] = _from_elsewhere(name, file, environ, problems)
    return found


def _from_elsewhere(name: str, file: object, environ: Mapping[str, str], problems: Problems) -> str:
    if file is not None:
        key = f"{name}_file"
        # A path that is not absolute is reported by the schema, as all paths are.
        usable = isinstance(file, str) and os.path.isabs(file) and file.isprintable()
        return (
            _read(Path(str(file)), key, problems) if usable and not problems.settled((_SECTION, key)) else ""
        )
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory and os.path.lexists(os.path.join(directory, name)):
        return _read(Path(directory, name), name, problems)
    problems.add(
        (_SECTION, name),
        f"is missing. Set it in one of three ways: `{name}: ${{VARIABLE}}` with that environment variable; "
        f"`{name}_file: /path/to/file`; or systemd's `LoadCredential={name}:/path/to/file`",
    )
    return ""


def _read(path: Path, key: str, problems: Problems) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # without the mark that editors on Windows begin with
    except OSError as error:
        problems.add((_SECTION, key), f"{path} can't be read: {error.strerror}")
        return ""
    except UnicodeDecodeError:
        problems.add((_SECTION, key), f"{path} is not UTF-8 text")
        return ""
    secret = text.removesuffix("\n").removesuffix("\r")
    _check(secret, key, problems)
    return secret


def _check(secret: object, key: str, problems: Problems) -> None:
    if secret == "":
        problems.add((_SECTION, key), "is empty")
    elif isinstance(secret, str) and not secret.isprintable():
        problems.add((_SECTION, key), "contains a line break or a control character: it must be one line")
    elif isinstance(secret, str) and secret != secret.strip():
        problems.add((_SECTION, key), "begins or ends with a space")
