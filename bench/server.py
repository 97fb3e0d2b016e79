"""A stand-in for the vendor's API that is never what is waited for: nginx with Lua (`vendor.lua`).

Debian's packages nginx and libnginx-mod-http-lua. Token, presigned URL on the same server, upload (the bytes
are counted and dropped), result; every job is transcribed at once, or after a time that `Server.set` says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from invox_watcher.sandbox.signing import raw
from tests.kit.clinic import free_port

APP_ID, API_KEY, APP_SECRET = "sandbox-app", "sandbox-key", "sandbox-secret-of-32-characters!"
WEBHOOKS = 10_000  # that a server can sign
_LUA = Path(__file__).with_name("vendor.lua")
_LIBRARIES = "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua;;"
_MODULES = Path("/usr/lib/nginx/modules")
_CONFIGURATION = """
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h;
    client_max_body_size 0; client_body_buffer_size 64k; default_type application/json;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    lua_package_path "{libraries}"; lua_socket_buffer_size 256k; lua_socket_log_errors off;
    lua_max_pending_timers 200000; lua_max_running_timers 4096;
    lua_shared_dict jobs 256m; lua_shared_dict settings 1m; lua_shared_dict counts 1m;
    lua_shared_dict trace 64m;
    init_by_lua_block {{ vendor = dofile("{lua}"); vendor.load_signatures("{signatures}") }}
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls_port} ssl;
        location = /oauth/token {{ content_by_lua_block {{ vendor.token() }} }}
        location = /api/v1/generate-presigned-url {{ content_by_lua_block {{ vendor.presign() }} }}
        location /put/ {{ content_by_lua_block {{ vendor.put() }} }}
        location = /api/v1/get-transcription {{ content_by_lua_block {{ vendor.result() }} }}
        location /bench/ {{ content_by_lua_block {{ vendor.control() }} }}
    }}
}}
"""


@dataclass(frozen=True)
class VendorJob:
    """What the server knows about an upload; times in seconds since the epoch, zero for never."""

    request_id: str
    uploaded_at: float
    ready_at: float
    answered_at: float  # the first reply with words
    polls: int


class Server:
    """A running stand-in. Its settings may be changed at any time."""

    def __init__(self, folder: Path, port: int, tls_port: int, process: subprocess.Popen[bytes]) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self.tls_url = f"https://127.0.0.1:{tls_port}"
        self.certificate = folder / "certificate.pem"
        self.process = process
        self._log = folder / "error.log"

    def set(
        self,
        *,
        latency_seconds: float = 0,
        result_seconds: float = 0,
        result_share: float = 0,
        spread: float = 0,
        reply_seconds: float = 0,
        fault_every: int = 0,
        trace: bool = False,
    ) -> None:
        """Say how the server behaves from now on; what isn't named goes back to its default.

        Each call takes `latency_seconds`. A result is ready `result_seconds` after the upload, and
        `result_share` of the recording's length (8 kHz, 16 bit) ± `spread` of that. The words cover the whole
        recording, or `reply_seconds`. Every `fault_every`-th call is answered by 503.
        """
        values = {
            "latency_seconds": latency_seconds,
            "result_seconds": result_seconds,
            "result_share": result_share,
            "spread": spread,
            "reply_seconds": reply_seconds,
            "fault_every": fault_every,
            "trace": int(trace),
        }
        self._get("settings?" + urlencode(values))

    def reset(self) -> None:
        """Forget all jobs and counts."""
        self._get("reset")

    def counts(self) -> dict[str, float]:
        """Calls by name, `bytes` uploaded, `first` and `last` call (seconds since the epoch), mishaps."""
        pairs = (line.split() for line in self._get("counts").splitlines())
        return {name: float(value) for name, value in pairs}

    def trace(self) -> list[tuple[str, float]]:
        """Every call since `set(trace=True)` or the last question, with its time."""
        pairs = (line.split() for line in self._get("trace").splitlines())
        return [(name, float(at)) for name, at in pairs]

    def jobs(self) -> list[VendorJob]:
        """Every upload."""
        rows = (line.split() for line in self._get("jobs").splitlines())
        return [
            VendorJob(request_id, float(uploaded), float(ready), float(answered), int(polls))
            for request_id, uploaded, ready, answered, polls in rows
        ]

    def mishaps(self) -> str:
        """What the server has complained about."""
        return self._log.read_text() if self._log.exists() else ""

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.base_url}/bench/{path}", timeout=60) as reply:
            return str(reply.read().decode())


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server with its files in `folder`, for as long as the block lasts; it dies with this process."""
    nginx = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if nginx is None or not (_MODULES / "ngx_http_lua_module.so").exists():
        raise SystemExit(
            "Install nginx and libnginx-mod-http-lua: apt-get install nginx libnginx-mod-http-lua"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _certify(folder)
    signatures = folder / "signatures"
    signatures.write_text("".join(raw(f"{APP_ID}~{API_KEY}", APP_SECRET) + "\n" for _ in range(WEBHOOKS)))
    port, tls_port = free_port(), free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            modules=_MODULES,
            folder=folder,
            libraries=_LIBRARIES,
            lua=_LUA,
            signatures=signatures,
            port=port,
            tls_port=tls_port,
        )
    )
    command = ["setpriv", "--pdeathsig", "KILL", nginx, "-c", str(configuration), "-p", str(folder)]
    process = subprocess.Popen([*command, "-e", str(folder / "error.log")])
    server = Server(folder, port, tls_port, process)
    try:
        _await(server)
        server.set()
        yield server
    finally:
        process.kill()
        process.wait()


def _certify(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-days", "2", "-nodes"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)


def _await(server: Server) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            server.counts()
        except OSError as error:
            if server.process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"nginx did not start: {server.mishaps() or error}") from error
            time.sleep(0.02)
        else:
            return
