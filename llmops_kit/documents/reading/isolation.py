"""What a process gives up before it opens a stranger's file: network, other programs, memory and time without end.

Each step holds where the system permits it; what is held is reported, so that a person can be told.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import socket
import struct
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from llmops_kit.documents.reading.records import Limits

# Numbers of the Linux interface: <linux/sched.h>, <linux/prctl.h>, <linux/seccomp.h>, <linux/audit.h>, asm/unistd of the two machines.
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 1, 38, 22, 2
_MACHINES: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "x86_64": (
        0xC000003E,
        {"socket": 41, "connect": 42, "ptrace": 101, "process_vm_writev": 311, "io_uring_setup": 425, "kill": 62, "execve": 59, "execveat": 322},
    ),
    "aarch64": (
        0xC00000B7,
        {"socket": 198, "connect": 203, "ptrace": 117, "process_vm_writev": 271, "io_uring_setup": 425, "kill": 129, "execve": 221, "execveat": 281},
    ),
}
_OTHER_PROGRAMS = ("kill", "execve", "execveat")


def close_network() -> bool:
    """Move this process, and all that it starts later, to a network of its own without any device. True where the system permits it.

    Call it while the process has one thread (a new user namespace requires it).
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = _libc()
    if libc.unshare(_NEW_NETWORK) == 0:  # an administrator needs no user namespace and keeps access to its files
        return True
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    with contextlib.suppress(OSError):  # without the maps the process is "nobody", which reads its files as well
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def follow_parent() -> None:
    """End this process when the one that started it ends (Linux; elsewhere the limits end it)."""
    if sys.platform.startswith("linux"):
        _libc().prctl(_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)


def confine(limits: Limits, *, programs: bool) -> None:
    """Set the limits of one file on this process and forbid sockets; `programs` allows to start others (text recognition needs one)."""
    _set_limits(limits, programs=programs)
    _refuse_sockets()
    if sys.platform.startswith("linux"):
        _filter_calls(programs=programs)


def _set_limits(limits: Limits, *, programs: bool) -> None:
    resource = _resource()
    if resource is None:
        return
    wanted = {
        resource.RLIMIT_AS: (_mapped_bytes() + limits.memory_bytes,) * 2,
        resource.RLIMIT_CPU: (limits.processor_s, limits.processor_s + 2),  # the first is a signal we can name, the second kills
        resource.RLIMIT_FSIZE: (limits.written_bytes,) * 2,
        resource.RLIMIT_NOFILE: (limits.open_files,) * 2,
        resource.RLIMIT_CORE: (0, 0),
    }
    if not programs:
        wanted[resource.RLIMIT_NPROC] = (0, 0)
    for kind, (soft, hard) in wanted.items():
        top = resource.getrlimit(kind)[1]
        if top != resource.RLIM_INFINITY:
            soft, hard = min(soft, top), min(hard, top)
        with contextlib.suppress(OSError, ValueError):  # a system may refuse one of them; the others still hold
            resource.setrlimit(kind, (soft, hard))


@lru_cache(maxsize=1)
def _resource() -> ModuleType | None:
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    return resource


@lru_cache(maxsize=1)
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def prepare() -> None:
    """Load once in the server what every child would load for itself."""
    _resource()
    if sys.platform.startswith("linux"):
        _libc()
    platform.machine()


def _mapped_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 30


def _refuse_sockets() -> None:
    class ClosedSocket(socket.socket):
        def __init__(self, *_values: object, **_named: object) -> None:
            _refuse()

    socket.socket = ClosedSocket  # type: ignore[misc]
    socket.create_connection = _refuse
    socket.getaddrinfo = _refuse


def _refuse(*_values: object, **_named: object) -> NoReturn:
    raise PermissionError("the reading process has no network")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def _filter_calls(*, programs: bool) -> bool:
    """Let the kernel answer "not permitted" to calls no reader needs (seccomp, classic BPF). False where the machine is not known."""
    if platform.machine() not in _MACHINES or struct.calcsize("P") != 8:
        return False
    architecture, numbers = _MACHINES[platform.machine()]
    refused = [number for name, number in numbers.items() if not (programs and name in _OTHER_PROGRAMS)]
    refuse_at = 4 + len(refused) + 1  # index of the instruction that refuses
    code = [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 0, refuse_at - 2, architecture),  # another one (32-bit calls): refuse
        (0x20, 0, 0, 0),  # load the number of the call
        (0x35, refuse_at - 4, 0, 0x40000000),  # the x32 numbers: refuse
        *((0x15, refuse_at - index - 5, 0, number) for index, number in enumerate(refused)),
        (0x06, 0, 0, 0x7FFF0000),  # allow
        (0x06, 0, 0, 0x00050000 | 1),  # answer EPERM
    ]
    packed = b"".join(struct.pack("HBBI", *each) for each in code)
    program = _Program(len(code), packed)
    libc = _libc()
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)
