"""The process that reads files: started by `guard.Guard`, it loads libraries once and forks a child for every file.

One JSON line on standard input asks (`{"do": "read", …}`), one JSON line with the size of what follows and then that JSON answer. The child
gives up network, memory and time (`isolation`), works (`dispatch`) and hands its result back through a pipe. When the pipe to the parent
closes, the server kills the child and ends; so nothing is left behind when the parent is killed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from llmops_kit.documents.reading import dispatch, isolation
from llmops_kit.documents.reading.child import Child, unpack, write_all
from llmops_kit.documents.reading.records import Limits, ReadOptions

_LOOK_S = 2.0  # how often a waiting server checks that its parent is still there


@dataclass
class Server:
    """One parent, one file at a time. `waiting` is the child for the next file, made while the parent is busy with the last answer."""

    asked: int
    answers: int
    limits: Limits
    network_closed: bool
    parent: int = field(default_factory=os.getppid)
    working: Child | None = None
    waiting: Child | None = None
    loaded: set[str] = field(default_factory=set)
    buffer: bytes = b""

    def serve(self) -> None:
        """Answer until the parent goes. Without fork (Windows) answer one file and end; the parent starts another server."""
        while (line := self._next_line()) is not None:
            job = json.loads(line)
            self._preload(job)
            if not hasattr(os, "fork") or job.get("single"):
                isolation.confine(self.limits, programs=_starts_programs(job))
                self._answer({}, dispatch.answer(job, self.limits))
                return
            self._answer(*self._work(job))
            self.waiting = self._fork(programs=False)
        self._clear()

    def end(self, *_signal: object) -> NoReturn:
        """Kill the children and end at once (the parent asked for it, or is gone)."""
        self._clear()
        os._exit(0)

    def _clear(self) -> None:
        for child in (self.working, self.waiting):
            if child is not None:
                child.kill()

    def _next_line(self) -> bytes | None:
        while b"\n" not in self.buffer:
            if not self._hear():
                return None
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def _hear(self) -> bool:
        """Wait for more from the parent; False when it is gone."""
        if hasattr(os, "fork") and not select.select([self.asked], [], [], _LOOK_S)[0]:
            return os.getppid() == self.parent
        more = os.read(self.asked, 1 << 16)
        self.buffer += more
        return bool(more)

    def _answer(self, head: dict[str, Any], body: bytes) -> None:
        write_all(self.answers, json.dumps({**head, "size": len(body), "network_closed": self.network_closed}).encode() + b"\n" + body)

    def _preload(self, job: dict[str, Any]) -> None:
        """Import what files of this suffix need, once, so that the forked children share it."""
        new = [name for name in dispatch.libraries(job) if name not in self.loaded]
        for name in new:
            self.loaded.add(name)
            with contextlib.suppress(ImportError):  # the child names the missing package in its answer
                importlib.import_module(name)
        if new:
            self._dismiss()
            gc.collect()
            gc.freeze()  # the children then share these pages instead of copying them at their first collection

    def _dismiss(self) -> None:
        if self.waiting is not None:
            self.waiting.bury()
            self.waiting = None

    def _fork(self, *, programs: bool) -> Child:
        return Child.fork(self.limits, programs=programs, close=(self.asked, self.answers))

    def _work(self, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        programs = _starts_programs(job)
        if self.waiting is None or self.waiting.programs != programs:
            self._dismiss()
            self.waiting = self._fork(programs=programs)
        child, self.waiting = self.waiting, None
        self.working = child
        child.give(job)
        data, stopped = self._collect(child, self.limits.ocr_s if programs else self.limits.wall_s)
        ended, peak = child.bury()
        self.working = None
        body = unpack(data)
        return ({}, body) if body is not None else (self._fault(stopped, ended, peak), b"")

    def _collect(self, child: Child, wall_s: float) -> tuple[bytes, dict[str, Any] | None]:
        """The child's bytes, and which limit stopped it, if one did."""
        parts: list[bytes] = []
        size, start, progress = 0, time.monotonic(), _Progress(child.process)
        while True:
            now = time.monotonic()
            left = start + wall_s - now
            if left <= 0 and (now - progress.moved > 1.5 * _LOOK_S or now > start + self.limits.starved_s):
                return b"", {"key": "time", "facts": {"allowed": wall_s}}
            ready, _, _ = select.select([child.result, self.asked], [], [], min(left, _LOOK_S) if left > 0 else _LOOK_S / 2)
            if (self.asked in ready and not self._hear()) or os.getppid() != self.parent:
                self.end()
            progress.look()
            if child.result not in ready:
                continue
            part = os.read(child.result, 1 << 20)
            if not part:
                return b"".join(parts), None
            parts.append(part)
            progress.moved = time.monotonic()
            size += len(part)
            if size > self.limits.result_bytes:
                return b"", {"key": "too_much_text", "facts": {"allowed": self.limits.characters}}

    def _fault(self, stopped: dict[str, Any] | None, ended: int, peak: int) -> dict[str, Any]:
        """Which limit ended a child that gave no answer."""
        if stopped is not None:
            return stopped
        if ended == -signal.SIGXCPU:
            return {"key": "processor", "facts": {"allowed": self.limits.processor_s}}
        if ended == -signal.SIGXFSZ:
            return {"key": "output", "facts": {"allowed": self.limits.written_bytes >> 20}}
        if peak > self.limits.memory_bytes * 0.7:  # libraries in C end themselves when memory is refused
            return {"key": "memory", "facts": {"allowed": self.limits.memory_bytes >> 20}}
        return {"key": "crash", "facts": {"detail": signal.Signals(-ended).name if ended < 0 else f"exit {ended}"}}


class _Progress:
    """When a process last gave data or computed (by its processor time, where the system tells: Linux)."""

    def __init__(self, process: int) -> None:
        self._source = Path(f"/proc/{process}/stat")
        self._used = -1
        self._looked = 0.0
        self.moved = time.monotonic()

    def look(self) -> None:
        """Take the time of the process, at most once a second."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S / 2:
            return
        self._looked = now
        try:
            fields = self._source.read_text().rpartition(")")[2].split()
        except OSError:
            return
        used = int(fields[11]) + int(fields[12])  # utime and stime: proc(5)
        if used > self._used:
            self._used, self.moved = used, now


def _starts_programs(job: dict[str, Any]) -> bool:
    return ReadOptions.from_dict(job.get("options", {})).ocr


def main(limits: str) -> None:
    """Serve the parent on standard input and output. `limits` is JSON of `Limits`."""
    network_closed = isolation.close_network()
    isolation.prepare()
    gc.freeze()
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)  # a library that prints must not speak into the answers
    server = Server(asked=0, answers=answers, limits=Limits(**json.loads(limits)), network_closed=network_closed)
    signal.signal(signal.SIGTERM, server.end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    with contextlib.suppress(BrokenPipeError):
        server.serve()
