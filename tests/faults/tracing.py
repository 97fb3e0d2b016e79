"""Counts the system calls of all threads of a process (ptrace(2)); at the nth it is killed or the call fails.

strace counts each thread for itself, so that its nth call is another one in every run; here is one count.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Collection
from dataclasses import dataclass, field

# linux/ptrace.h
_CONTINUE_TO_CALL, _SEIZE, _INTERRUPT, _LISTEN, _CALL_INFO = 24, 0x4206, 0x4207, 0x4208, 0x420E
_PEEK_USER, _POKE_USER, _SET_REGISTERS = 3, 6, 0x4205
_MARK_CALLS, _FOLLOW_THREADS, _DIE_WITH_US = 1, 1 << 3, 1 << 20
_EVENT_STOP = 128
_ENTRY, _EXIT = 1, 2
_ALL_CHILDREN = 0x40000000  # __WALL in linux/wait.h: threads too
_STOP_SIGNALS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

# What changes something outside the process, or is seen there: the number on x86-64, and on machines whose
# kernel has the generic table. Killing at any other call leaves the same traces as killing at the next of
# these: what only reads, waits or handles memory leaves none, and what a call opens, locks or leases is
# closed, unlocked and given back by the kernel however the process ends.
_NUMBERS = {
    "write": (1, 64),
    "pwrite64": (18, 68),
    "writev": (20, 66),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "connect": (42, 203),
    "shutdown": (48, 210),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "open": (2, None),
    "openat": (257, 56),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchown": (93, 55),
    "utimensat": (280, 88),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
}
_IS_X86 = platform.machine() == "x86_64"
_NAMES = {pair[0 if _IS_X86 else 1]: name for name, pair in _NUMBERS.items()}
_FLAGS_OF_OPEN = {"open": 1, "openat": 2}
_BY_DESCRIPTOR = frozenset(
    {
        "write",
        "pwrite64",
        "writev",
        "sendto",
        "sendmsg",
        "connect",
        "shutdown",
        "fsync",
        "fdatasync",
        "ftruncate",
    }
    | {"fallocate", "fchmod", "fchown"}
)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True)
class Call:
    """A counted system call: its name, and what its descriptor stands for where it has one."""

    name: str
    target: str = ""


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`th call that counts: the process is killed, or the call fails with `error`.

    A call counts where it is one of `calls`, by default any that can be seen from outside, and where its
    descriptor, if it has one, stands for something `under` that path.
    """

    at: int
    error: int | None = None
    calls: Collection[str] = frozenset(_NUMBERS)
    under: str = ""

    def counts(self, call: Call) -> bool:
        """Whether `call` is one of those that this fault counts."""
        return call.name in self.calls and (
            call.name not in _BY_DESCRIPTOR or call.target.startswith(self.under)
        )


@dataclass
class Trace:
    """What was seen of a process: how it ended, and its calls."""

    status: int = 0  # its exit status; minus the signal that killed it
    all_calls: int = 0
    calls: list[Call] = field(default_factory=list)  # those that count, in order
    hit: Call | None = None  # the one at which the fault struck


def follow(pid: int, gate: int, fault: Fault) -> Trace:
    """Trace the child process `pid`, which waits for `gate` to be written to, until it ends."""
    _ptrace(_SEIZE, pid, 0, _MARK_CALLS | _FOLLOW_THREADS | _DIE_WITH_US)
    _ptrace(_INTERRUPT, pid)
    os.waitpid(pid, _ALL_CHILDREN)
    _ptrace(_CONTINUE_TO_CALL, pid)
    os.write(gate, b"\n")
    return _Tracer(pid, fault).run()


class _Tracer:
    def __init__(self, pid: int, fault: Fault) -> None:
        self._pid = pid
        self._fault = fault
        self._trace = Trace()
        self._failing: set[int] = set()  # threads in a call that is to fail

    def run(self) -> Trace:
        while True:
            thread, status = os.waitpid(-1, _ALL_CHILDREN)
            if os.WIFSTOPPED(status):
                self._go_on(thread, os.WSTOPSIG(status), status >> 16)
            elif thread == self._pid:  # told only once all of its threads have ended
                self._trace.status = os.waitstatus_to_exitcode(status)
                return self._trace

    def _go_on(self, thread: int, number: int, event: int) -> None:
        """Let a thread that has stopped go on to where it next enters or leaves a call."""
        try:
            if number == signal.SIGTRAP | 0x80:
                self._at_call(thread)
                _ptrace(_CONTINUE_TO_CALL, thread)
            elif event == _EVENT_STOP and number in _STOP_SIGNALS:
                _ptrace(_LISTEN, thread)
            else:
                _ptrace(_CONTINUE_TO_CALL, thread, 0, 0 if event else number)
        except ProcessLookupError:
            pass  # killed meanwhile: the next wait says so

    def _at_call(self, thread: int) -> None:
        where, number, arguments = _call_info(thread)
        if where == _EXIT and thread in self._failing:
            self._failing.discard(thread)
            _set_result(thread, -(self._fault.error or 0))
        if where != _ENTRY:
            return
        self._trace.all_calls += 1
        call = self._call(number, arguments)
        if call is None or not self._fault.counts(call):
            return
        self._trace.calls.append(call)
        if len(self._trace.calls) == self._fault.at:
            self._trace.hit = call
            self._strike(thread)

    def _call(self, number: int, arguments: tuple[int, ...]) -> Call | None:
        name = _NAMES.get(number)
        if name is None:
            return None
        if name in _FLAGS_OF_OPEN and not arguments[_FLAGS_OF_OPEN[name]] & (os.O_CREAT | os.O_TRUNC):
            return None
        if name not in _BY_DESCRIPTOR:
            return Call(name)
        try:
            return Call(name, os.readlink(f"/proc/{self._pid}/fd/{arguments[0]}"))
        except OSError:
            return Call(name)

    def _strike(self, thread: int) -> None:
        if self._fault.error is None:
            os.kill(self._pid, signal.SIGKILL)
        else:
            _skip_call(thread)
            self._failing.add(thread)


def _call_info(thread: int) -> tuple[int, int, tuple[int, ...]]:
    """Whether a thread enters or leaves a call, and on entering which one with which arguments."""
    info = ctypes.create_string_buffer(88)  # struct ptrace_syscall_info
    _ptrace(_CALL_INFO, thread, len(info), ctypes.addressof(info))
    number, *arguments = struct.unpack_from("7Q", info, 24)
    return info.raw[0], number, tuple(arguments)


def _skip_call(thread: int) -> None:
    """Have the kernel do nothing for the call that the thread is about to make."""
    if _IS_X86:
        _ptrace(_POKE_USER, thread, 15 * 8, -1)  # orig_rax
    else:
        _set_registers(thread, 0x404, struct.pack("i", -1))  # NT_ARM_SYSTEM_CALL


def _set_result(thread: int, result: int) -> None:
    if _IS_X86:
        _ptrace(_POKE_USER, thread, 10 * 8, result)  # rax
    else:
        _set_registers(thread, 1, struct.pack("q", result))  # NT_PRSTATUS, whose first register is x0


def _set_registers(thread: int, kind: int, content: bytes) -> None:
    """Write the first registers of a set (`struct iovec` says where they are)."""
    buffer = ctypes.create_string_buffer(content, len(content))
    vector = ctypes.create_string_buffer(struct.pack("PN", ctypes.addressof(buffer), len(content)))
    _ptrace(_SET_REGISTERS, thread, kind, ctypes.addressof(vector))


def _ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, address, data) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace: {os.strerror(code)} ({errno.errorcode[code]})")
