"""A forked process that reads one file and ends. It is made and confined before its file is known, so that a file need not wait for that."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from llmops_kit.documents.reading import dispatch, isolation
from llmops_kit.documents.reading.records import Limits


@dataclass
class Child:
    """`orders` is written to, `result` read from; `programs` says whether it may start other programs."""

    process: int
    orders: int
    result: int
    programs: bool

    @classmethod
    def fork(cls, limits: Limits, *, programs: bool, close: Iterable[int]) -> Self:
        """Start a child that waits for its job; it does not keep the descriptors `close`."""
        hear, orders = os.pipe()
        result, tell = os.pipe()
        process = os.fork()
        if process == 0:
            _live(limits, programs, hear, tell, [*close, orders, result])
        os.close(hear)
        os.close(tell)
        with contextlib.suppress(OSError):  # the child does it as well: whoever comes first
            os.setpgid(process, process)
        return cls(process, orders, result, programs)

    def give(self, job: Mapping[str, Any]) -> None:
        """Hand over the job. A child that died meanwhile shows at its result."""
        with contextlib.suppress(BrokenPipeError):
            write_all(self.orders, json.dumps(job).encode())
        os.close(self.orders)
        self.orders = -1

    def kill(self) -> None:
        """End the child and what it started, at once."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(self.process, signal.SIGKILL)

    def bury(self) -> tuple[int, int]:
        """Kill it, give its descriptors back, and say how it had ended: exit code (negative: the signal) and peak memory in bytes."""
        self.kill()
        for descriptor in {self.orders, self.result} - {-1}:
            os.close(descriptor)
        _, status, usage = os.wait4(self.process, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def write_all(descriptor: int, data: bytes) -> None:
    """Write until everything is out."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def unpack(data: bytes) -> bytes | None:
    """What a child wrote, None if it did not come to the end: eight bytes tell the size."""
    if len(data) < 8 or int.from_bytes(data[:8], "big") != len(data) - 8:
        return None
    return data[8:]


def _live(limits: Limits, programs: bool, hear: int, tell: int, close: Iterable[int]) -> NoReturn:
    """The child's whole life: it never returns into the server's loop, whatever happens."""
    code = 1
    try:
        os.setpgid(0, 0)
        isolation.follow_parent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in {0, 1, 2}:
            os.dup2(nothing, descriptor)
        for descriptor in {*close} - {0, 1, 2}:
            os.close(descriptor)
        isolation.confine(limits, programs=programs)
        if order := _hear(lambda: os.read(hear, 1 << 16)):
            body = dispatch.answer(json.loads(order), limits)
            write_all(tell, len(body).to_bytes(8, "big") + body)
        code = 0
    finally:
        os._exit(code)


def _hear(read: Callable[[], bytes]) -> bytes:
    parts: list[bytes] = []
    while part := read():
        parts.append(part)
    return b"".join(parts)
