"""docs/webhooks.md and the README against what there is: keys, events, limits, commands, exit statuses."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from invox_watcher import retention
from invox_watcher.config.schema import Config, HooksSection, RetentionSection, WebhookSection
from invox_watcher.errors import ExitStatus
from invox_watcher.events import Event
from invox_watcher.invox.webhook import MAX_BODY_BYTES
from invox_watcher.journal import audit
from invox_watcher.page import pages
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.waiting import wait_for

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "webhooks.md").read_text()


def test_every_key_of_the_section_is_explained_and_no_other(page: str) -> None:
    needed = [
        "credentials.app_secret",
        "http.listen",
        *(f"webhook.{name}" for name in WebhookSection.model_fields),
    ]
    assert [key for key in needed if f"| `{key}` |" not in page] == []
    sections = "|".join(Config.model_fields)
    for section, name in re.findall(rf"`({sections})\.(\w+)`", page):
        keys = getattr(Config.model_fields[section].annotation, "model_fields", {})
        assert name in keys, f"{section}.{name}"


def test_every_way_to_confirm_is_explained(page: str) -> None:
    ways = set(get_args(WebhookSection.model_fields["confirm"].annotation))
    assert set(re.findall(r"^\*\*`(\w+)`\*\*", page, re.MULTILINE)) == ways


def test_every_event_is_explained_and_no_other(page: str) -> None:
    named = set(re.findall(r"^\| `(webhook_\w+)` \|", page, re.MULTILINE))
    assert named == {event.value for event in Event if event.name.startswith("WEBHOOK_")}


def test_the_limit_is_the_daemons_own(page: str) -> None:
    mebibytes = MAX_BODY_BYTES >> 20
    assert f"a body of {mebibytes} MiB" in page
    assert f"max_size {mebibytes}MiB" in page
    assert f"client_max_body_size {mebibytes}m;" in (DOCS / "nginx.conf").read_text()


# ---- all pages ---------------------------------------------------------------------------------------------


def test_every_link_leads_to_a_page_and_a_heading() -> None:
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for file, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
            target = page.parent / file if file else page
            assert target.is_file(), f"{page.name}: {file}"
            assert not anchor or anchor in _anchors(target), f"{page.name}: {file}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


# ---- the README --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readme() -> str:
    return (DOCS.parent / "README.md").read_text()


def test_the_readmes_commands_are_those_of_the_program(readme: str) -> None:
    table = readme.partition("## Commands\n\n")[2].partition("\n\n")[0]
    named = {words.split()[0] for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
             for words in re.findall(r"`([^`]+)`", row)}  # fmt: skip
    listed = subprocess.run(
        [sys.executable, "-m", "invox_watcher", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert named == set(re.findall(r"^    ([a-z]+) ", listed, re.MULTILINE))


def test_the_readmes_exit_statuses_are_those_of_the_program(readme: str) -> None:
    sentence = readme.partition("Exit statuses:")[2].partition(".")[0]
    named = {int(number) for number in re.findall(r"(?:^|;)\s*(\d+) ", sentence)}
    assert named == {status.value for status in ExitStatus}


def keys_below(section: Any, prefix: str) -> Iterator[str]:
    """The keys of a section and of those in it, with their paths."""
    for name, field in getattr(section, "model_fields", {}).items():  # a list has none
        key = f"{prefix}.{field.alias or name}"
        yield key
        if hasattr(field.annotation, "model_fields"):
            yield from keys_below(field.annotation, key)


def test_every_assumption_about_the_vendor_has_its_key() -> None:
    page = (DOCS / "vendor.md").read_text()
    known = {
        key for name, field in Config.model_fields.items() for key in keys_below(field.annotation, name)
    } | set(Config.model_fields)
    named = set(re.findall(r"`((?:api|upload|webhook|polling|folders|credentials)(?:\.\w+)*)`", page))
    assert named - known == set()
    of_transport = {"connect_timeout_seconds", "read_timeout_seconds", "ca_bundle", "proxy"}
    assumed = {"upload.headers", *keys_below(Config.model_fields["api"].annotation, "api")}
    assert assumed - named == {f"api.{name}" for name in of_transport}


def test_the_readmes_keys_exist(readme: str) -> None:
    sections = "|".join(Config.model_fields)
    named = re.findall(rf"`({sections})\.(\w+)(?:`|:)", readme)
    assert len(named) > 5
    for section, key in named:
        assert key in getattr(Config.model_fields[section].annotation, "model_fields", {}), f"{section}.{key}"


# ---- docs/audit-log.md -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audit_page() -> str:
    return (DOCS / "audit-log.md").read_text()


def test_the_keys_of_retention_and_hooks_are_explained(audit_page: str) -> None:
    keys = {f"retention.{name}" for name in RetentionSection.model_fields}
    assert set(re.findall(r"^\| `(retention\.\w+)` \|", audit_page, re.MULTILINE)) == keys
    assert [name for name in HooksSection.model_fields if f"hooks.{name}" not in audit_page] == []


def test_hook_variables_and_audit_steps_are_explained(audit_page: str, tmp_path: Path, api: Sandbox) -> None:
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\ncat > {tmp_path}/json\n")
    script.chmod(0o755)
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_failed": [str(script)]})
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    with running(clinic):
        wait_for("the hook ran", lambda: bool(clinic.events("delivery_sent")))
    explained = dict(re.findall(r"^\| `(INVOX_WATCHER_\w+)` \| `(\w+)` \|", audit_page, re.MULTILINE))
    assert set(explained.values()) == set(json.loads((tmp_path / "json").read_text()))
    environment = (tmp_path / "env").read_text()
    assert set(re.findall(r"^(INVOX_WATCHER_\w+)=", environment, re.MULTILINE)) <= set(explained)
    table = audit_page.partition("|---|")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == _written()


def test_looks_at_the_page_are_explained(audit_page: str) -> None:
    table = audit_page.partition("users of [the page]")[2].partition("|---|")[2].partition("\n\n")[0]
    calls = [
        node for node in ast.walk(ast.parse(Path(pages.__file__).read_text())) if isinstance(node, ast.Call)
    ]
    arguments = [
        call.args[1]
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("audit", "recorder")
    ]
    recorded = {str(one.value) for one in arguments if isinstance(one, ast.Constant)}
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == recorded


def _written() -> set[str]:
    """The first argument of every `….write("what", …)` and `….append("what", …)` to the audit log."""
    modules = [Path(module.__file__ or "") for module in (audit, retention)]
    nodes = [node for module in modules for node in ast.walk(ast.parse(module.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    first = [call.args[0] for call in calls if call.func.attr in ("write", "append") and call.args]
    return {str(argument.value) for argument in first if isinstance(argument, ast.Constant)}
