"""A PostgreSQL server of our own, in a folder of its own, on a Unix socket or on loopback."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from tests.kit.processes import children

DEBIAN = sorted(glob.glob("/usr/lib/postgresql/*/bin"))  # Debian doesn't put these on the PATH
SEARCHED = os.pathsep.join([*reversed(DEBIAN), os.environ.get("PATH", os.defpath)])
USER = "watcher"


class Cluster:
    """Started when it is made; `close` removes it."""

    def __init__(
        self,
        *,
        port: int | None = None,
        address: str = "127.0.0.1",
        options: str = "-c fsync=off",
        primary: Cluster | None = None,
    ) -> None:
        """Listens on a Unix socket, and with `port` on that port of `address`, for all of its network.

        With `primary`, it is that one's standby: no commit there is confirmed before it is here.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.address = address
        self._options = f"-k {self.folder} {options} -c listen_addresses={address if port else ''}"
        if port:
            self._options += f" -p {port}"
        self.port = port or 5432
        self._account = _account()
        if self._account:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self.data = self.folder / "data"
        if primary is None:
            encoding = ("-E", "UTF8", "--locale=C.UTF-8")
            self._run("initdb", "-D", str(self.data), "-U", USER, "-A", "trust", "-N", *encoding)
            with (self.data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")
        else:
            source = ("-d", f"host={primary.folder} port={primary.port} user={USER}")
            self._run("pg_basebackup", *source, "-D", str(self.data), "-R", "-c", "fast", "-N")
        self.start()
        if primary is not None:
            with psycopg.connect(primary.url(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")

    def require_tls_and_password(self, password: str) -> Path:
        """Take nothing else over the network from now on; return the certificate, to check it by."""
        key, certificate = self.data / "server.key", self.data / "server.crt"
        self._run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", str(key), "-out", str(certificate), "-days", "3650", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        )  # fmt: skip
        key.chmod(0o600)
        with psycopg.connect(f"postgresql://{USER}@/postgres?host={self.folder}&port={self.port}") as local:
            local.execute(f"ALTER ROLE {USER} PASSWORD '{password}'".encode())
        rules = f"local all {USER} trust\nhostssl all {USER} 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")
        self.stop()
        self.start()
        return certificate

    def url(self, database: str = "postgres") -> str:
        """How a client connects."""
        if self.port == 5432:
            return f"postgresql://{USER}@/{database}?host={self.folder}"
        return f"postgresql://{USER}@{self.address}:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new database, and how a client connects to it."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.url(database)

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", log, "-o", self._options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: fast, or immediate as by a crash."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self.data), "-m", mode)

    def promote(self) -> None:
        """Be a primary from now on, and wait for nobody; for a standby."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def signal(self, number: signal.Signals) -> None:
        """To the server and all its processes: SIGSTOP makes it hang."""
        leader = self.pid
        for process in (leader, *children(leader)):
            os.kill(process, number)

    def close(self) -> None:
        """Stop it and remove its files."""
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        found = shutil.which(program, path=SEARCHED)
        assert found, f"{program} is missing: run this by make, which installs it (see make help)"
        as_user: dict[str, Any] = {}
        if self._account:
            as_user = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [found, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
            env={"PATH": SEARCHED, "LC_ALL": "C.UTF-8"}, **as_user,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def _account() -> pwd.struct_passwd | None:
    """Root may not run a server: then the account that Debian's package has made."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None
