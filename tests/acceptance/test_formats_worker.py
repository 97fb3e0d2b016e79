"""The locked worker: what it can't do, its limits, and what the daemon makes of one that misbehaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import invox_watcher
from invox_watcher.errors import DecoderError, DiskFullError, InvoxError, RecordingError, StoppedError
from invox_watcher.formats.decoder import Allowance, Decoder
from invox_watcher.formats.facts import Facts
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

ROOT = str(Path(invox_watcher.__file__).parent.parent)
MIB = 1 << 20
# What a decoder that was taken over would try. Each prints `done` if it can.
ATTEMPTS = {
    "open a file": ("open('/etc/passwd')", "refused"),
    "create a file": ("os.open('/tmp/x', os.O_CREAT | os.O_WRONLY)", "refused"),
    "list a folder": ("os.listdir('/')", "refused"),
    "stat a file": ("os.stat('/etc/passwd')", "refused"),
    "raise its limits": ("resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))", "refused"),
    "connect": ("socket.socket()", "killed"),
    "send to a socket it has": ("ours.send(b'x')", "killed"),
    "fork": ("os.fork()", "killed"),
    "run a program": ("os.execv('/bin/true', ['true'])", "killed"),
    "start a thread": ("threading.Thread(target=print).start()", "killed"),
    "trace its parent": ("libc.ptrace(16, os.getppid(), 0, 0)", "killed"),
    "read its parent's memory": ("libc.process_vm_readv(os.getppid(), 0, 0, 0, 0, 0)", "killed"),
    "kill its parent": ("os.kill(os.getppid(), 9)", "killed"),
    "delete a file": ("os.unlink('/tmp/x')", "killed"),
    "rename a file": ("os.rename('/tmp/x', '/tmp/y')", "killed"),
    "duplicate a descriptor": ("os.dup2(0, 9)", "killed"),
    "make code": ("libc.mmap(0, 4096, 7, 34, -1, 0)", "killed"),
    "make data executable": ("libc.mprotect(page, 4096, 5)", "killed"),
    "unlock itself": ("libc.prctl(22, 0)", "killed"),
    "use another architecture's calls": ("libc.syscall(0x40000000 + 2, b'/etc/passwd', 0)", "killed"),
}
_LOCKED = """
import ctypes, mmap, os, resource, socket, sys, threading
from invox_watcher.formats.lock import Limits, lock
libc = ctypes.CDLL(None, use_errno=True)
ours, _theirs = socket.socketpair()
page = ctypes.addressof(ctypes.c_char.from_buffer(mmap.mmap(-1, 4096)))
lock(Limits(768 << 20, 10, 1 << 20))
os.write(1, b"locked ")
try:
    {attempt}
except (OSError, ValueError):
    os.write(1, b"refused")
    os._exit(0)
os.write(1, b"done")
os._exit(0)
"""


def run(program: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": ROOT},
    )


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_locked_process_can_not(name: str) -> None:
    attempt, outcome = ATTEMPTS[name]
    done = run(_LOCKED.format(attempt=attempt))
    if outcome == "refused":
        assert (done.returncode, done.stdout) == (0, b"locked refused"), done.stderr
    else:
        assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"locked "), done.stderr


def test_the_attempts_work_without_the_lock() -> None:
    for name in ("open a file", "connect", "start a thread", "duplicate a descriptor", "stat a file"):
        program = _LOCKED.replace("lock(Limits", "(Limits").format(attempt=ATTEMPTS[name][0])
        assert run(program).stdout.endswith(b"done"), name


def test_with_a_second_thread_nothing_is_locked() -> None:
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()\nlock("
    done = run(_LOCKED.replace("lock(", thread, 1).format(attempt="pass"))
    assert b"another thread is running" in done.stderr


def test_memory_is_limited() -> None:
    done = run(_LOCKED.format(attempt="bytearray(1 << 30)"))
    assert b"MemoryError" in done.stderr
    assert done.stdout == b"locked "


def test_cpu_time_is_limited() -> None:
    program = _LOCKED.replace("768 << 20, 10,", "768 << 20, 1,").format(attempt="while True: pass")
    assert run(program).returncode in (-signal.SIGXCPU, -signal.SIGKILL)


# ---- the decoder -------------------------------------------------------------------------------------------


def decode(
    path: Path,
    *,
    command: Sequence[str] | None = None,
    target: Path | None = None,
    stop: threading.Event | None = None,
    passwords: Path | None = None,
    **allowance: Any,
) -> Facts:
    """Decode it, with the worker or another `command`, which may use only the `allowance`."""
    allowed = Allowance(
        allowance.get("cpu_seconds", 10),
        allowance.get("wall_seconds", 30.0),
        allowance.get("output_bytes", 9 * MIB),
    )
    options: dict[str, Any] = {} if command is None else {"command": command}
    decoder = Decoder(passwords_file=passwords, allowance=lambda _size, _most: allowed, **options)
    with path.open("rb") as source, (target or Path(os.devnull)).open("wb") as output:
        return decoder.decode(source, output, "flac", stop or threading.Event())


def failing(path: Path, **options: Any) -> InvoxError:
    with pytest.raises(InvoxError) as raised:
        decode(path, **options)
    return raised.value


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "a.wav", seconds=2.0)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", f"import os, signal, sys, time\n{program}"]


def test_rate_and_channels_are_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "stereo.wav", tmp_path / "out.flac"
    with wave.open(str(source), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(b"\x01\x02\x03\x04" * 22050)
    facts = decode(source, target=target)
    assert (facts.seconds, facts.rate, facts.channels, facts.errors) == (1.0, 22050, 2, 0)
    assert target.read_bytes()[:4] == b"fLaC"
    again = decode(target)
    assert (again.seconds, again.rate, again.channels, again.declared_seconds) == (1.0, 22050, 2, 1.0)


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\xff\x7f" * 1000 + b"\x00\x80" * 1000 + b"\x00\x40" * 6000)
    assert decode(tmp_path / "a.wav").clipped == 0.25


@pytest.mark.parametrize(
    "content", [b"", b"letter\n" * 100, bytes(10_000), b"#!AMR\n", b"\x02dss" + bytes(9000)]
)
def test_what_holds_no_sound_is_undecodable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert failing(tmp_path / "a").code == "undecodable"


def test_a_worker_gets_no_environment_and_no_name(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOX_API_KEY", "secret")
    seen = recording.with_name("seen")
    program = (
        f"open({str(seen)!r}, 'w').write(repr((dict(os.environ), sys.argv, os.listdir('/proc/self/fd'))))"
    )
    failing(recording, command=python(program))
    environment, arguments, descriptors = eval(seen.read_text())
    assert set(environment) - {"LC_CTYPE"} == {"PYTHONPATH"}
    assert not any("a.wav" in argument for argument in arguments)
    assert set(descriptors) - {"3", "4"} == {
        "0",
        "1",
        "2",
    }  # 3 and 4: the file and the folder that it looks at


def test_output_beyond_its_limit_is_not_written(tmp_path: Path) -> None:
    noise = tmp_path / "noise.wav"
    with wave.open(str(noise), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(os.urandom(MIB))
    target = tmp_path / "out.flac"
    assert failing(noise, target=target, output_bytes=100_000).code == "decoded_too_large"
    assert target.stat().st_size <= 100_000


def test_a_full_disk_is_no_fault_of_the_recording(recording: Path) -> None:
    assert isinstance(failing(recording, target=Path("/dev/full")), DiskFullError)


@pytest.mark.parametrize(
    ("program", "wall_seconds", "says"),
    [
        ("time.sleep(60)", 0.5, "more than 0.5 s"),
        ("os.close(2); time.sleep(60)", 5, "did not end"),
        ("while True: os.write(2, b'x' * 9999)", 0.5, "more than 0.5 s"),
        ('os.write(2, b\'{"outcome": "decoded"}\')', 30, "crashed"),
        ("os.write(2, bytes(10**6))", 30, "crashed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 30, "crashed"),
        ("os.kill(os.getpid(), signal.SIGSYS)", 30, "was stopped"),
        ("sys.exit(3)", 30, "crashed"),
    ],
)
def test_a_worker_that_misbehaves_is_ended(
    recording: Path, program: str, wall_seconds: float, says: str
) -> None:
    began = time.monotonic()
    error = failing(recording, command=python(program), wall_seconds=wall_seconds)
    assert isinstance(error, RecordingError)
    assert says in error.message
    assert time.monotonic() - began < 10


def test_a_worker_that_spins_is_ended_by_its_cpu_limit(recording: Path) -> None:
    program = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass"
    assert "too long" in failing(recording, command=python(program)).message


def test_a_killed_worker_says_nothing_about_the_recording(recording: Path) -> None:
    error = failing(recording, command=python("os.kill(os.getpid(), signal.SIGKILL)"))
    assert isinstance(error, DecoderError)
    assert error.retry_can_help


def test_a_worker_that_can_not_be_started_is_no_fault_either(recording: Path) -> None:
    assert isinstance(failing(recording, command=["/no/such/python"]), DecoderError)


def test_a_stop_ends_a_worker_at_once(recording: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    assert isinstance(failing(recording, command=python("time.sleep(60)"), stop=stop), StoppedError)
    assert time.monotonic() - began < 5


def test_no_worker_outlives_the_daemon(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    os.mkfifo(endless)  # nothing ever comes, so that the locked worker waits for its first byte
    arguments = "flac --memory-bytes=805306368 --cpu-seconds=9 --output-bytes=9"
    program = (
        "import os, subprocess, sys\n"
        f"source = os.open({str(endless)!r}, os.O_RDWR)\n"
        "worker = subprocess.Popen([sys.executable, '-m', 'invox_watcher.formats.worker', "
        f"*{arguments.split()!r}, f'--parent={{os.getpid()}}'], stdin=source)\n"
        "print(worker.pid, flush=True)\n"
        "worker.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ROOT}
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    status = Path(f"/proc/{worker}/status")
    wait_for("the worker is locked", lambda: "Seccomp:\t2" in status.read_text())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for("the worker is gone", lambda: not status.exists() or "State:\tZ" in status.read_text())


def test_the_daemon_imports_no_decoder() -> None:
    program = (
        "import sys, invox_watcher.daemon.process, invox_watcher.cli._main\n"
        "print([name for name in ('av', 'pydsscodec', 'invox_watcher.formats.sound') if name in sys.modules])"
    )
    done = run(program)
    assert done.stdout == b"[]\n", done.stderr
