"""79: hundreds of recordings, four targets that come and go, and a daemon that is killed all the time."""

from __future__ import annotations

import json
import os
import pwd
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import hl7
import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.hl7_receivers import Receiver as Ris
from tests.kit.hl7_receivers import python_hl7
from tests.kit.http_target import Receiver, http_target
from tests.kit.loopback import make_certificate, serve
from tests.kit.moody_proxy import Mood, MoodyProxy, moody_proxy
from tests.kit.recordings import write_wav
from tests.kit.targets import Exim, Sshd, exim, recipe, sshd
from tests.kit.waiting import wait_for

RECORDINGS, KILLS = 600, 60
_KILL_SECONDS = 0.3


@contextmanager
def changing_moods(proxies: list[MoodyProxy], receiver: Receiver) -> Iterator[None]:
    """Each proxy has another mood every second; the receiver refuses now and then."""
    stop = threading.Event()

    def change() -> None:
        while not stop.wait(1):
            random.choice(proxies).change(random.choice(get_args(Mood)))
            receiver.refuse = random.choice([None, None, 503])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        receiver.refuse = None
        for proxy in proxies:
            proxy.change("up")


def owes_nothing(clinic: Clinic) -> bool:
    return "Nothing is owed" in clinic.run("jobs", "--owed").stdout


@dataclass(frozen=True)
class Destinations:
    """Four targets, each behind a proxy, and what has arrived there."""

    targets: Mapping[str, Any]
    proxies: Sequence[MoodyProxy]
    mail: Exim
    sftp: Sshd
    ris: Ris
    portal: Receiver


@contextmanager
def destinations(tmp_path: Path) -> Iterator[Destinations]:
    certificate, _context = make_certificate(tmp_path)
    receiver = Receiver()
    with ExitStack() as opened:
        mail, sftp = opened.enter_context(exim(certificate)), opened.enter_context(sshd())
        ris, portal = opened.enter_context(python_hl7()), opened.enter_context(serve(receiver.answer))
        ports = (mail.port, sftp.port, ris.port, portal.port)
        proxies = [opened.enter_context(moody_proxy(port)) for port in ports]
        known = tmp_path / "known_hosts"
        known.write_text(sftp.known_hosts.read_text().replace(f":{sftp.port}", f":{proxies[1].port}"))
        password = tmp_path / "password"
        password.write_text("a pass word\n")
        password.chmod(0o600)
        through = [{"host": "127.0.0.1", "port": proxy.port} for proxy in proxies]
        fixed = {"retry_max_seconds": 1, "timeout_seconds": 5}
        targets = {
            "mail": recipe("mail") | through[0] | fixed | {
                "ca_bundle": str(certificate), "password_file": str(password), "body": "{text}",
            },
            "archive": recipe("sftp") | through[1] | fixed | {
                "user": pwd.getpwuid(os.geteuid()).pw_name, "key_file": str(sftp.key_file),
                "known_hosts": str(known), "folder": str(sftp.home), "filename": "{name}.{job_id}",
            },
            "ris": recipe("hl7") | through[2] | fixed | {
                "tls": False, "ca_bundle": None, "document_type": "CN",
                "patient_id": "{name}", "patient_name": "", "author": "", "visit": "",
            },
            "portal": http_target(tmp_path, proxies[3].port, **fixed),
        }  # fmt: skip
        yield Destinations(targets, proxies, mail, sftp, ris, receiver)


def assert_each_arrived_once(there: Destinations, jobs: set[str]) -> None:
    """Once by what a receiver knows a repeat; the bytes may have been sent more than once."""
    assert {key.removesuffix(".portal") for key in there.portal.keys} == jobs
    assert len(set(there.portal.keys)) == RECORDINGS
    mails = Counter(message["Message-ID"] for message in there.mail.queue)
    assert len(mails) == RECORDINGS
    controls = Counter(str(hl7.parse(message).segment("MSH")[10]) for message in there.ris.messages)
    assert len(controls) == RECORDINGS
    names = [path.name for path in there.sftp.home.iterdir()]
    formats = there.targets["archive"]["formats"]
    assert Counter(name.split(".")[1] for name in names) == dict.fromkeys(jobs, len(formats))
    assert {name.rpartition(".")[2] for name in names} == set(formats)  # no .part
    webhooks = Counter(there.portal.keys)
    for what, seen in (("webhooks", webhooks), ("mails", mails), ("messages", controls)):
        print(f"{what}: {sum(seen.values())} for {RECORDINGS}, at most {max(seen.values())} of one")


@pytest.mark.needs("exim4", "setpriv", "sshd", "ssh-keygen")
@pytest.mark.timeout(1800)
def test_79_every_document_arrives_and_none_is_uploaded_twice(tmp_path: Path, api: Sandbox) -> None:
    with destinations(tmp_path) as there:
        clinic = Clinic(tmp_path / "clinic", api.base_url, targets=there.targets)
        for number in range(RECORDINGS):
            write_wav(clinic.inbox / f"r{number:03}.wav", pitch=200 + number)
        with changing_moods(there.proxies, there.portal):
            for _kill in range(KILLS):
                daemon = clinic.start()
                time.sleep(_KILL_SECONDS)
                daemon.kill()
                daemon.wait()
        with running(clinic):
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == RECORDINGS, seconds=600)
            wait_for("nothing is owed", lambda: owes_nothing(clinic), seconds=600)
        # Not by the log: a kill may come between what is done and its line.
        jobs = {job["id"] for job in json.loads(clinic.run("jobs", "--done", "--json").stdout)}
        assert len(jobs) == RECORDINGS
        assert api.stats()["uploads"] == RECORDINGS
        assert_each_arrived_once(there, jobs)
