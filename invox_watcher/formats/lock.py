"""Locks this process: limits, then a list of the system calls that are left. There is no way back.

Classic BPF for seccomp (kernel manual: userspace-api/seccomp_filter), loaded with prctl(2), which systemd's
`@system-service` includes; libseccomp would need a shared library that containers lack.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
from dataclasses import dataclass

# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_KILL, _ERRNO_EPERM, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data, little-endian
_PROT_EXEC = 4


@dataclass(frozen=True)
class Limits:
    """What a worker may use: memory as address space, CPU time, and the size of its output."""

    memory_bytes: int
    cpu_seconds: int
    output_bytes: int


class LockError(Exception):
    """The process can't be locked here, so nothing must be decoded in it."""


@dataclass(frozen=True)
class _Calls:
    """Numbers of system calls on one architecture."""

    audit_architecture: int  # linux/audit.h
    mapping: tuple[int, ...]  # mmap, mprotect: allowed unless executable
    allowed: tuple[int, ...]
    refused: tuple[int, ...]  # fail, as libraries try them and can do without; any other call kills


# read, write, close, fstat, lseek, munmap, brk, rt_sigprocmask, rt_sigreturn, pread64, sched_yield, mremap,
# madvise, getpid, exit, gettid, futex, restart_syscall, clock_gettime, exit_group, getrandom
_X86_64 = _Calls(
    0xC000003E,
    mapping=(9, 10),
    allowed=(0, 1, 3, 5, 8, 11, 12, 14, 15, 17, 24, 25, 28, 39, 60, 186, 202, 219, 228, 231, 318),
    # open, stat, lstat, ioctl, access, fcntl, readlink, sysinfo, sched_getaffinity, openat, newfstatat,
    # readlinkat, faccessat, prlimit64, statx
    refused=(2, 4, 6, 16, 21, 72, 89, 99, 204, 257, 262, 267, 269, 302, 332),
)
_AARCH64 = _Calls(
    0xC00000B7,
    mapping=(222, 226),
    allowed=(63, 64, 57, 80, 62, 215, 214, 135, 139, 67, 124, 216, 233, 172, 93, 178, 98, 128, 113, 94, 278),
    refused=(29, 25, 179, 123, 56, 79, 78, 48, 261, 291),  # as above, without what ARM never had
)
_BY_MACHINE = {"x86_64": _X86_64, "aarch64": _AARCH64}


def lock(limits: Limits) -> None:
    """Lock the process; from now on it can read and write what is open, use memory, and exit.

    Raises:
        LockError: it can't be locked, or has other threads by now, which the lock would not cover.
    """
    calls = _BY_MACHINE.get(platform.machine())
    if calls is None:
        raise LockError(f"no list of system calls for {platform.machine()}")
    try:
        if len(os.listdir("/proc/self/task")) != 1:
            raise LockError("another thread is running")
        _limit(limits)
    except (OSError, ValueError) as error:
        raise LockError(f"limits: {error}") from None
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    program = _program(calls)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as `parent`, its parent, is gone."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def _limit(limits: Limits) -> None:
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # The kernel kills at the second limit, whatever the process does with the signal of the first.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))


def _program(calls: _Calls) -> bytes:
    def returned(value: int) -> bytes:
        return _instruction(_RETURN, value)

    parts = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_IF_EQUAL, calls.audit_architecture, if_true=1),
        returned(_KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    for number in calls.mapping:
        parts += [
            _instruction(_IF_EQUAL, number, if_false=4),
            _instruction(_LOAD, _THIRD_ARGUMENT),
            _instruction(_IF_ANY_BIT, _PROT_EXEC, if_false=1),
            returned(_KILL),
            returned(_ALLOW),
        ]
    for number in calls.allowed:
        parts += [_instruction(_IF_EQUAL, number, if_false=1), returned(_ALLOW)]
    for number in calls.refused:
        parts += [_instruction(_IF_EQUAL, number, if_false=1), returned(_ERRNO_EPERM)]
    return b"".join([*parts, returned(_KILL)])


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _prctl(option: int, *arguments: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    converted = [
        argument if isinstance(argument, bytes) else ctypes.c_ulong(argument) for argument in arguments
    ]
    padding = [ctypes.c_ulong(0)] * (4 - len(converted))
    if libc.prctl(option, *converted, *padding) != 0:
        code = ctypes.get_errno()
        raise LockError(f"prctl {option}: {os.strerror(code)}")
