"""The processes of jobs: started on their own, told apart from strangers with the same number, and ended with all they started."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmops_kit.settings import JOB_MARK

_SAME_S = 0.02  # a start is known to a hundredth of a second


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its words appended to the file `log`: nothing of it hangs on this process.

    Raises `OSError`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as words:
        return subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, start_new_session=True, env=dict(environment), close_fds=True
        )


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from a later one with its number: when it started, on which machine, and since which start of that."""
    return {"pid": pid, "started_s": _started_s(pid), **machine()}


def own_pid() -> int:
    """The number of this process."""
    return os.getpid()


def machine() -> dict[str, str]:
    """The machine this runs on, and its present run."""
    return {"host": platform.node(), "boot": _boot()}


def lives(handle: Mapping[str, Any]) -> bool:
    """Whether the process of `handle` (see `identity`), on this machine, still runs. One that has ended and waits for its parent does not."""
    started = _started_s(int(handle["pid"]))
    known = handle.get("started_s")
    return started is not None and handle.get("boot") == _boot() and (known is None or abs(started - known) < _SAME_S)


def end(job_id: str, handle: Mapping[str, Any]) -> None:
    """Kill whatever still runs of the job on this machine: it, its group, and what else carries its mark."""
    if "pid" in handle and lives(handle):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(handle["pid"]), signal.SIGKILL)
    for pid in _marked(job_id):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def leader(job_id: str) -> int:
    """The process that was started for the job: this one, or the launcher above it."""
    import psutil

    found = psutil.Process()
    with contextlib.suppress(psutil.Error):
        for parent in found.parents():
            if _mark(parent) != job_id:
                break
            found = parent
    return int(found.pid)


def oom_kills() -> dict[str, Any]:
    """The kernel's count of processes killed for memory, of this process's group (cgroup) or else of the machine, and where it stands."""
    for place in _oom_places():
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = [line.split() for line in Path(place).read_text(encoding="ascii").splitlines()]
            return {"oom_file": place, "oom_kills": next(int(words[1]) for words in lines if words and words[0] == "oom_kill")}
    return {}


def was_killed_for_memory(handle: Mapping[str, Any]) -> bool:
    """Whether the kernel's count has grown since it was written into `handle`."""
    if "oom_file" not in handle:
        return False
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = [line.split() for line in Path(str(handle["oom_file"])).read_text(encoding="ascii").splitlines()]
        return any(words[0] == "oom_kill" and int(words[1]) > int(handle["oom_kills"]) for words in lines if words)
    return False


def _oom_places() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield f"/sys/fs/cgroup{path.rstrip('/')}/memory.events"
            elif "memory" in controllers.split(","):
                yield f"/sys/fs/cgroup/memory{path.rstrip('/')}/memory.oom_control"
    yield from ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat")


def _started_s(pid: int) -> float | None:
    """When a running process started; None where there is none. On Linux in seconds since the machine's start: no change of the clock moves it."""
    if platform.system() == "Linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")  # fields 3 and 22 of proc(5)
        except (OSError, IndexError, ValueError):
            return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


@lru_cache(maxsize=1)
def _boot() -> str:
    """What stands for the machine's present run: Linux has an id for it, elsewhere it is the minute of its start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        return str(round(psutil.boot_time() / 60))


def _marked(job_id: str) -> Iterator[int]:
    """The processes that were started with the job's mark in their environment; this one is none of them."""
    import psutil

    for process in psutil.process_iter():
        if process.pid != os.getpid() and _mark(process) == job_id:
            yield process.pid


def _mark(process: Any) -> str | None:
    import psutil

    try:
        mark: str | None = process.environ().get(JOB_MARK)
        return mark
    except (psutil.Error, OSError):
        return None
