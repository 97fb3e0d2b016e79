"""A database that stops, hangs, moves or is cut off: what a host sees of it, and that nothing is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from invox_watcher.errors import JournalError
from invox_watcher.job import State
from invox_watcher.journal import Journal, Server, postgresql
from invox_watcher.journal.backend import Connection, UncertainError
from invox_watcher.journal.fleet import IN_PLAIN
from tests.fleet.relay import Relay
from tests.kit.clinic import free_port
from tests.kit.postgres import Cluster
from tests.unit.test_journal import added, job, uploaded

PATIENCE_SECONDS = 60.0


@pytest.fixture
def journal_of_own(own: Cluster, tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path, server=Server(own.create("journal")))
    yield opened
    opened.close()


def until_it_works(call: Callable[[], object]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends_at:
        with suppress(JournalError):
            call()
            return
        time.sleep(0.05)
    call()


def test_a_restart_is_survived_without_a_word(own: Cluster, journal_of_own: Journal) -> None:
    kept = uploaded(journal_of_own)
    own.stop()
    for call in (journal_of_own.check, journal_of_own.jobs, lambda: added(journal_of_own)):
        with pytest.raises(JournalError, match="can't be used") as caught:
            call()
        assert "Is the server running" in caught.value.hint
    own.start()
    until_it_works(journal_of_own.check)
    assert journal_of_own.jobs() == [kept]
    assert journal_of_own.move(kept, State.TRANSCRIBED).state is State.TRANSCRIBED
    # Idle connections that were lost meanwhile cost nobody anything.
    own.stop("immediate")
    own.start()
    assert journal_of_own.get(kept.id) is not None
    own.stop("immediate")
    own.start()
    added(journal_of_own)


@pytest.mark.parametrize("sent", ["all", "a part"])
def test_a_host_that_stops_in_the_middle_of_a_write_keeps_nobody_out(
    own: Cluster, journal_of_own: Journal, sent: str
) -> None:
    """Of several statements that are sent together, the server may have got a part, and wait for the rest."""
    with closing(postgresql.Connector(Server(own.url("journal"))).connect()) as stopped:
        stopped.execute(f"BEGIN; SELECT pg_advisory_xact_lock({postgresql.WRITING})")
        if sent == "a part":
            stopped.pgconn.enter_pipeline_mode()
            stopped.pgconn.send_query_params(b"SELECT 1", None)
            stopped.pgconn.send_flush_request()
            stopped.pgconn.flush()
        until_it_works(lambda: added(journal_of_own))
    assert len(journal_of_own.jobs()) == 1


def test_a_crash_in_the_middle_of_a_write_undoes_it(own: Cluster, tmp_path: Path) -> None:
    def crash() -> None:
        if crashes:
            crashes.pop()
            own.stop("immediate")

    crashes: list[int] = []
    journal = Journal(tmp_path, server=Server(own.create("journal")), before_commit=crash)
    crashes.append(1)
    with closing(journal):
        with pytest.raises(JournalError):
            journal.add(job())
        own.start()
        until_it_works(lambda: added(journal))
        assert len(journal.jobs()) == 1


def test_a_host_that_stops_in_a_write_keeps_no_other_waiting_for_long(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = postgresql._SESSION.replace(f"'{postgresql._IDLE_SECONDS}s'", "'1s'")
    assert session != postgresql._SESSION
    monkeypatch.setattr(postgresql, "_SESSION", session)
    begun, go_on = threading.Event(), threading.Event()

    def stop(connection: Connection) -> None:
        assert connection.execute("UPDATE totals SET jobs = 7").rowcount == 0
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        connection.execute("UPDATE totals SET jobs = 7")

    with (
        closing(Journal(tmp_path, server=server)) as stopped,
        closing(Journal(tmp_path, server=server)) as other,
    ):
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(stopped._database.write, stop)
            assert begun.wait(PATIENCE_SECONDS)
            added(other)
            go_on.set()
            with pytest.raises(JournalError):
                writing.result()
        added(stopped)
        assert len(other.jobs()) == 2


@pytest.fixture
def relay(cluster: Cluster, server: Server) -> Iterator[Relay]:
    made = Relay(cluster)
    yield made
    made.close()


def cut_at_commit(relay: Relay) -> None:
    def cut(data: bytes) -> bool:
        if b"COMMIT" not in data:
            return True
        relay.on_data = lambda _data: True
        return False

    relay.on_data = cut


def test_a_lost_answer_to_a_commit_is_uncertain(relay: Relay, tmp_path: Path) -> None:
    url = f"postgresql://watcher@127.0.0.1:{relay.port}/journal?sslmode=disable"
    with closing(Journal(tmp_path, server=Server(url))) as journal:
        waiting = uploaded(journal)
        cut_at_commit(relay)
        with pytest.raises(UncertainError):
            journal.move(waiting, State.TRANSCRIBED)
        found = journal.get(waiting.id)
        assert found is not None
        assert found.state is State.TRANSCRIBED
        cut_at_commit(relay)
        written = added(journal)  # a claim looks whether it is there
        assert journal.get(written.id) == written


def test_a_server_that_hangs_is_noticed(own: Cluster, journal_of_own: Journal) -> None:
    own.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(JournalError):
            journal_of_own.check()
        assert time.monotonic() - began < PATIENCE_SECONDS
    finally:
        own.signal(signal.SIGCONT)
    until_it_works(journal_of_own.check)


def test_of_two_addresses_the_one_that_can_be_written_counts(tmp_path: Path) -> None:
    first, second = Cluster(port=free_port()), Cluster(port=free_port())
    try:
        for cluster in (first, second):
            cluster.create("journal")
        addresses = ",".join(f"127.0.0.1:{cluster.port}" for cluster in (first, second))
        server = Server(f"postgresql://watcher@{addresses}/journal")
        with closing(Journal(tmp_path, server=server)) as journal:
            added(journal)
            with psycopg.connect(first.url("journal"), autocommit=True) as connection:
                assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
                connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")  # as a standby
            first.stop()
            first.start()
            until_it_works(journal.check)
            with pytest.raises(JournalError):  # nobody has copied it
                added(journal)
            with closing(Journal(tmp_path, server=server)) as other:  # which makes its tables there
                added(other)
            with psycopg.connect(second.url("journal")) as connection:
                assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
            until_it_works(lambda: added(journal))
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://watcher@/nowhere?host={folder}", ("does not exist", "the database in state.url")),
        ("postgresql://nobody:SECRET@/journal?host={folder}", ("does not exist", "Check the user")),
        ("postgresql://watcher:SECRET@127.0.0.1:1/journal", ("refused", "Is the server running")),
        ("postgresql://watcher:SECRET@no.such.host.invalid/a", ("no.such.host", "Is the server running")),
        ("postgresql://db.example/a?password=b&SECRET", ("its address can't be read", "'Connection URIs'")),
    ],
)
def test_what_is_wrong_is_said_without_secrets(
    cluster: Cluster, server: Server, tmp_path: Path, url: str, said: tuple[str, str]
) -> None:
    for create in (True, False):
        with pytest.raises(JournalError, match=said[0]) as caught:
            Journal(tmp_path, create=create, server=Server(url.format(folder=cluster.folder)))
        assert said[1] in caught.value.hint
        assert "SECRET" not in f"{caught.value} {caught.value.hint} {Server(url)!r} {Server(url).name}"
        assert caught.value.__cause__ is None


def test_over_the_network_it_takes_tls_and_the_password(tmp_path: Path) -> None:
    cluster, file = Cluster(port=free_port()), tmp_path / "password"
    try:
        plain = f"postgresql://watcher@127.0.0.1:{cluster.port}/postgres?sslmode=require"
        with pytest.raises(JournalError, match="does not support SSL") as caught:
            Journal(tmp_path, server=Server(plain))
        assert "turn it on at the server" in caught.value.hint
        authority = cluster.require_tls_and_password("correct horse")
        options = f"sslmode=verify-full&sslrootcert={authority}"
        url = f"postgresql://watcher@localhost:{cluster.port}/postgres?hostaddr=127.0.0.1&{options}"
        file.write_text("correct horse\n")
        with closing(Journal(tmp_path, server=Server(url, file))) as journal:
            added(journal)
            assert journal._database.read("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
                (True,)
            ]
        with pytest.raises(JournalError, match="no password supplied") as caught:
            Journal(tmp_path, server=Server(url))
        assert "state.password_file" in caught.value.hint
        file.write_text("wrong\n")
        with pytest.raises(JournalError, match="password authentication failed"):
            Journal(tmp_path, server=Server(url, file))
        file.write_text("correct horse\n")
        with pytest.raises(JournalError, match="pg_hba"):
            Journal(tmp_path, server=Server(url.replace("verify-full", "disable"), file))
        with pytest.raises(JournalError, match="does not match host name") as caught:  # the certificate
            Journal(tmp_path, server=Server(url.replace("@localhost", "@127.0.0.1"), file))
        assert "against the certificate of the server" in caught.value.hint
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("address", "is_read"),
    [
        *(("'10.1.2.3'", True), ("'2001:db8::1'", True)),
        *(("'127.0.0.2'", False), ("'::1'", False), ("NULL", False)),
    ],
)
def test_words_on_the_network_without_tls_are_noticed(server: Server, address: str, is_read: bool) -> None:
    query = IN_PLAIN.replace("inet_server_addr()", f"{address}::inet")
    with psycopg.connect(server.url) as connection:
        assert connection.execute(query.encode()).fetchall() == [(is_read,)]
        assert connection.execute(query.replace("NOT ssl", "NOT TRUE").encode()).fetchall() == [(False,)]


def test_the_password_is_read_for_each_connection(cluster: Cluster, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong, but this server trusts everybody\n")
    with closing(Journal(tmp_path, server=Server(server.url, file))) as journal:
        added(journal)
        assert journal.fleet is not None
        file.write_text("pass'word \\x\n")
        assert psycopg.conninfo.conninfo_to_dict(journal.fleet.conninfo())["password"] == "pass'word \\x"
        file.unlink()
        assert added(journal).state is State.CLAIMED  # by the connection that is open
