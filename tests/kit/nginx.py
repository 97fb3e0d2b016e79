"""A real nginx with TLS, for the sites of docs/."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.waiting import wait_for

# What nginx.conf has around a site. One process, so that it needs no user of its own where root runs it.
AROUND = """
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
"""

# A CA, and a server's certificate by it. Python's strict checks want the key usage to be named.
CERTIFICATES = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
authorityKeyIdentifier = keyid
"""
NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
SIGN = [
    f"req -x509 -config tls.cnf -extensions ca {NEW_KEY} -keyout ca.key -out ca.pem -subj /CN=CA -days 2",
    f"req -config tls.cnf {NEW_KEY} -keyout server.key -out server.csr -subj /CN=localhost",
    "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile tls.cnf -extensions server"
    " -out server.pem -days 2",
]


def make_certificates(folder: Path) -> None:
    """ca.pem, server.pem and server.key."""
    (folder / "tls.cnf").write_text(CERTIFICATES)
    for command in SIGN:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


@contextlib.contextmanager
def nginx(folder: Path, site: str, port: int) -> Iterator[None]:
    """nginx with this site, which listens on `port`, for as long as the block lasts."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.fail("nginx is missing. As root, run: apt-get install nginx")
    (folder / "nginx.conf").write_text(AROUND)
    (folder / "site.conf").write_text(site)
    log = folder / "error.log"
    command = [program, "-p", str(folder), "-e", str(log), "-c", "nginx.conf"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for("nginx listens", lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def accepts(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
