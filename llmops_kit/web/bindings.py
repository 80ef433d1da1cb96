"""What belongs to whom while the app runs: page sessions, queued jobs, uploads and files, each bound to one person.

Gradio lets a page choose its own session hash and checks it against nobody; these records close that.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_BINDINGS = 20_000
IDLE_S = 24 * 3600.0
_HASH = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Forbidden(Exception):
    """The thing belongs to somebody else, or to nobody yet; `args[0]` says which thing, for the log."""


@dataclass
class _Binding:
    user: str
    used_at: float
    streams: int = 0


@dataclass
class Owners:
    """One kind of thing (sessions, jobs, uploads) and the person each belongs to.

    A thing belongs to whoever names it first and is never handed on. Where too many are remembered, those unused for
    a day go first; if none is, new ones are refused rather than old ones forgotten.
    """

    kind: str
    capacity: int = MAX_BINDINGS
    _bound: dict[str, _Binding] = field(default_factory=dict)

    def claim(self, key: object, user: str) -> None:
        """Bind `key` to `user`, or find it bound to them already. Raises: Forbidden."""
        if not isinstance(key, str) or not _HASH.fullmatch(key):
            raise Forbidden(f"malformed {self.kind}")
        if key not in self._bound:
            if len(self._bound) >= self.capacity:
                self._forget_idle()
            if len(self._bound) >= self.capacity:
                raise Forbidden(f"too many of the kind {self.kind}")
            self._bound[key] = _Binding(user, time.monotonic())
        self.check(key, user)

    def check(self, key: object, user: str) -> None:
        """Pass if `key` is bound to `user`. Raises: Forbidden, also for a key nobody holds."""
        binding = self._bound.get(key) if isinstance(key, str) else None
        if binding is None or binding.user != user:
            raise Forbidden(f"{self.kind} of {'somebody else' if binding else 'nobody'}")
        binding.used_at = time.monotonic()

    def hold(self, key: str, change: int) -> None:
        """Count a stream opened on (`change` = 1) or closed (-1); a key with open streams is never forgotten."""
        if key in self._bound:
            self._bound[key].streams += change

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - IDLE_S
        self._bound = {key: known for key, known in self._bound.items() if known.streams or known.used_at > oldest}


class Files:
    """Who may open which stored file below `folder`: uploads only their uploader, results whoever was shown them."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)
        self._uploads: dict[str, set[str]] = {}
        self._results: dict[str, set[str]] = {}
        self._marks = {json.dumps(self._folder, ensure_ascii=ascii_only)[1:-1].encode() for ascii_only in (True, False)}
        self.public: frozenset[str] = frozenset()

    def publish(self, config: Any) -> None:
        """Open the files that are part of the page itself (pictures, examples) to everybody."""
        self.public = frozenset(os.path.realpath(path) for path in _paths(config))

    def uploaded(self, body: bytes, user: str) -> None:
        """Remember who uploaded the files named in the answer of the upload route."""
        self._prune(self._uploads)
        for path in json.loads(body):
            self._uploads.setdefault(os.path.realpath(path), set()).add(user)

    def shown(self, event: bytes, user: str) -> None:
        """Remember the files named in an event of the result stream, unless they are somebody's upload."""
        if not any(mark in event for mark in self._marks):
            return
        self._prune(self._results)
        for line in event.splitlines():
            if line.startswith(b"data:"):
                for path in map(os.path.realpath, _paths(json.loads(line[5:]))):
                    if path not in self._uploads and self._inside(path):
                        self._results.setdefault(path, set()).add(user)

    def check(self, path: str, user: str) -> None:
        """Pass if `user` may open the stored file `path`. Raises: Forbidden."""
        real = os.path.realpath(path)
        if real not in self.public and user not in self._uploads.get(real, ()) and user not in self._results.get(real, ()):
            raise Forbidden("file of somebody else")

    def check_named(self, body: Any, user: str) -> None:
        """Pass if no file named in a request's JSON is somebody else's or on another machine. Raises: Forbidden."""
        for path in _paths(body):
            if "//" in path[:8] and not Path(path).is_absolute():
                raise Forbidden("file on another machine")
            if self._inside(os.path.realpath(path)):
                self.check(path, user)

    def _inside(self, real: str) -> bool:
        return real.startswith(self._folder + os.sep)

    def _prune(self, known: dict[str, set[str]]) -> None:
        if len(known) >= MAX_BINDINGS:
            for path in [path for path in known if not Path(path).exists()]:
                del known[path]


def _paths(value: Any) -> Iterator[str]:
    """Every stored file a JSON value names: `{"path": …}`, or a stream difference `[operation, [.., "path"], …]`."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("path"), str) and "\0" not in item["path"]:
                yield item["path"]
            waiting.extend(item.values())
        elif isinstance(item, list):
            if len(item) == 3 and isinstance(item[1], list) and item[1][-1:] == ["path"] and isinstance(item[2], str):
                yield item[2]
            waiting.extend(item)


class Bindings:
    """All records of who owns what; one per running app, forgotten when it stops."""

    def __init__(self, upload_folder: Path) -> None:
        self.sessions = Owners("session")
        self.jobs = Owners("job")
        self.uploads = Owners("upload")
        self.files = Files(upload_folder)
