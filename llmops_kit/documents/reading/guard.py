"""The parent's side of reading: one child process that opens strangers' files, and what it says turned into records.

    with Guard() as guard:
        reading = guard.read(path, "規程.pdf", ReadOptions())

Whatever a file does (hang, crash, fill the memory), `read` answers with a reason and the next file goes on.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from llmops_kit.documents.reading.reasons import reason
from llmops_kit.documents.reading.records import Box, Limits, PageFacts, Reading, ReadOptions, ReadPage, Rendered
from llmops_kit.errors import Cancelled, UnreadableFile

# The child imports what its parent would, from nowhere else (-I: no environment, no current folder), and only the reading part of the
# kit: a bare stand-in for the package `documents` keeps the database and the models out of the process that opens strangers' files.
_START = """
import json, sys, types
paths, home, limits = json.loads(sys.argv[1])
sys.path[:] = paths
package = types.ModuleType("llmops_kit.documents")
package.__path__ = [home]
sys.modules["llmops_kit.documents"] = package
from llmops_kit.documents.reading.server import main
main(limits)
"""
_GRACE_S = 60.0  # the server itself stops a file at its limit; this much later the parent stops the server (slow imports included)
_GOODBYE_S = 2.0


class Guard:
    """One process that reads files, for one thread at a time; `stop` may come from another. It starts with the first file."""

    def __init__(self, limits: Limits | None = None, *, single: bool = False) -> None:
        """`single` gives every file a server of its own instead of a fork (what systems without fork do)."""
        self.limits = limits or Limits()
        self.network_closed = False
        self._single = single
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._busy = self._stopped = self._overdue = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def read(self, path: Path, name: str, options: ReadOptions | None = None) -> Reading:
        """The pages of the file, or why there are none. `name` is what the person called it.

        Raises: `Cancelled` when `stop` was called meanwhile; nothing for what the file does.
        """
        chosen = options or ReadOptions()
        found = self._ask({"do": "read", "path": str(path), "name": name, "options": chosen.to_dict()}, ocr=chosen.ocr)
        return _reading(found)

    def expand(self, path: Path, name: str, into: Path, options: ReadOptions | None = None) -> Reading:
        """Unpack an archive into the folder `into` under names of our own; `members` are (name in the archive, path).

        Raises: `Cancelled` when `stop` was called meanwhile.
        """
        chosen = options or ReadOptions()
        found = self._ask({"do": "expand", "path": str(path), "name": name, "into": str(into), "options": chosen.to_dict()})
        return _reading(found)

    def render(
        self, path: Path, page: int, *, span: tuple[int, int] | None = None, width_px: int = 900, text: str | None = None, password: str | None = None
    ) -> Rendered:
        """A picture of `page` (from 1) of a PDF, `width_px` wide, and the boxes of the characters `span` of that page's text.

        `text` is the page's text as it was stored; without it, the text the default reader gives is meant.
        Raises: `UnreadableFile` where the page cannot be drawn, `Cancelled` when `stop` was called meanwhile.
        """
        options = ReadOptions(password=password).to_dict()
        found = self._ask(
            {"do": "render", "path": str(path), "name": path.name, "page": page, "span": span, "width_px": width_px, "text": text, "options": options}
        )
        if found["state"] != "read":
            texts = reason(found["key"], found.get("facts"))
            raise UnreadableFile(en=texts["en"], ja=texts["ja"], file=path.name, reason=texts)
        boxes: list[Box] = [(left, top, right, bottom) for left, top, right, bottom in found["boxes"]]
        return Rendered(base64.b64decode(found["png"]), tuple(boxes))

    def stop(self) -> None:
        """End the running `read`, `expand` or `render` from another thread: it raises `Cancelled`. Nothing happens when none is running."""
        with self._lock:
            if self._busy and self._process is not None:
                self._stopped = True
                self._process.terminate()

    def close(self) -> None:
        """End the process and everything it started; a file that another thread reads meanwhile ends as with `stop`."""
        self.stop()
        self._end()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            _open(process.stdin).close()  # the server ends when it hears nothing more
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            process.wait()
        _open(process.stdout).close()  # last: another thread may read from it until the process is gone

    def _ask(self, job: dict[str, Any], *, ocr: bool = False) -> dict[str, Any]:
        with self._lock:
            self._busy, self._stopped, self._overdue = True, False, False
        limit_s = max(self.limits.ocr_s if ocr else self.limits.wall_s, self.limits.starved_s) + _GRACE_S
        watch = threading.Timer(limit_s, self._expire)
        watch.daemon = True
        watch.start()
        try:
            return self._converse({**job, "single": self._single})
        finally:
            watch.cancel()
            with self._lock:
                self._busy = False

    def _converse(self, job: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps(job).encode() + b"\n"
        try:
            process = self._running(line)
            head = json.loads(_open(process.stdout).readline() or b"null")
            body = _open(process.stdout).read(head["size"]) if head else b""
        except OSError:
            head, body = None, b""
        if head is None or len(body) < head["size"]:
            self._end()
            if self._stopped:
                raise Cancelled
            if self._overdue:
                return {"state": "quarantined", "key": "time", "facts": {"allowed": self.limits.wall_s}}
            return {"state": "quarantined", "key": "unavailable", "facts": {"detail": self._last_words() or "no answer"}}
        self.network_closed = bool(head["network_closed"])
        if self._single:
            self._end()
        if self._stopped:  # the order came while the answer was on its way
            self._end()
            raise Cancelled
        if "key" in head:
            return {"state": "quarantined", **head}
        found: dict[str, Any] = json.loads(body)
        return found

    def _running(self, line: bytes) -> subprocess.Popen[bytes]:
        """The server with `line` sent to it; started, or started once more if it died since the last file."""
        for _ in range(2):
            process = self._process
            if process is None:
                self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 — as long as the process
                process = _start(self.limits, self._complaints)
                with self._lock:
                    self._process = process
            if process.poll() is not None:  # its spare child may hold the pipe for a moment longer: a write would still succeed
                self._end()
                continue
            try:
                _open(process.stdin).write(line)
                _open(process.stdin).flush()
            except (BrokenPipeError, ValueError):
                self._end()
                if self._stopped:
                    break
                continue
            return process
        raise OSError("the reading process does not start")

    def _last_words(self) -> str:
        """The last line the process wrote to its error output."""
        if self._complaints is None:
            return ""
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(size - 2000, 0))
        lines = self._complaints.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def _expire(self) -> None:
        with self._lock:
            self._overdue = True
            if self._process is not None:
                _kill_group(self._process)


def _start(limits: Limits, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parent.parent)
    paths = [each for each in sys.path if each]
    return subprocess.Popen(  # noqa: S603 — our own interpreter, our own text
        [sys.executable, "-I", "-X", "utf8", "-c", _START, json.dumps([paths, home, json.dumps(asdict(limits))])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Nothing of the parent's: keys and passwords stay outside. The only program to be found is that for text recognition; it gets one thread."""
    tesseract = shutil.which("tesseract")
    path = str(Path(tesseract).parent) if tesseract else ""
    plain = {"PATH": path, "LANG": "C.UTF-8", "OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if sys.platform == "win32":
        buffer = ctypes.create_unicode_buffer(260)
        ctypes.windll.kernel32.GetWindowsDirectoryW(buffer, 260)
        plain["SYSTEMROOT"] = buffer.value
    return plain


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe


def _reading(found: dict[str, Any]) -> Reading:
    pages = tuple(
        ReadPage(each["number"], each["text"], each.get("label", ""), each.get("reader", ""), PageFacts.from_dict(each.get("facts", {})))
        for each in found.get("pages", ())
    )
    key, facts = found.get("key", ""), found.get("facts", {})
    return Reading(
        state=found["state"],
        kind=found.get("kind", ""),
        reader=found.get("reader", ""),
        encoding=found.get("encoding", ""),
        pages=pages,
        reason=reason(key, facts) if key else None,
        warnings=tuple(found.get("warnings", ())),
        members=tuple((name, path) for name, path in found.get("members", ())),
        key=key,
        facts=facts,
    )
