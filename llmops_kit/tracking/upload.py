"""Uploading run folders to a W&B server, by the library's own `wandb sync` in a child process that can be stopped.

A folder may be uploaded again after a cut: W&B knows the files of a table by their names and contents, so that no row is there twice.
It also marks a folder as synced when it gave up on part of it; so its log is read, and the mark taken away again.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llmops_kit.errors import TrackingError
from llmops_kit.settings import wandb_environment
from llmops_kit.tracking.offline import seal_log

_AT_ONCE = 50  # folders in one child: their names have to fit a command line
_LOOK_S = 0.1
_REACH_S = 5.0
_REACH_EVERY_S = 10.0
# W&B tries again for about a quarter of an hour and then gives up without saying so.
_STALLED_S = 300.0
_STOP_S = 5.0
_LOST = re.compile(r"giving up|failed|fatal|incomplete|returned error", re.IGNORECASE)
_UNREACHABLE = {
    "en": "The W&B server {url} cannot be reached. The rows are safe in the workspace and will be uploaded when it can.",
    "ja": "W&Bサーバー{url}に接続できません。データはワークスペースに残っており、接続できるようになれば自動的にアップロードします。",
}
_CUT = {
    "en": "The upload to the W&B server {url} did not finish: {reason}. The rows are safe in the workspace and will be uploaded again; "
    "where it stays like this, kit.tracking.rebuild() makes the tables anew.",
    "ja": "W&Bサーバー{url}へのアップロードが終わりませんでした：{reason}。データはワークスペースに残っており、もう一度アップロードします。"
    "続く場合は、kit.tracking.rebuild() で表を作り直してください。",
}


def upload(folder: Path, sessions: Sequence[Path], base_url: str, *, done: Callable[[Path], None], stop: Callable[[], bool] = lambda: False) -> None:
    """Upload the run folders `sessions` of `folder`, oldest first; `done` is called with each that the server has.

    `stop` is asked all the time whether to give up. Raises `TrackingError` where anything is left; the key is read by the child
    from the environment and is in no argument and no message.
    """
    for start in range(0, len(sessions), _AT_ONCE):
        if not _reaches(base_url):
            raise _fault(_UNREACHABLE, base_url, "it does not answer")
        some = sessions[start : start + _AT_ONCE]
        for session in some:
            seal_log(session)
        said = _sync(folder, some, base_url, stop)
        lost = dict(_losses(folder, some))
        for session in some:
            marks = [*session.glob("run-*.wandb.synced")]
            if not marks or session in lost:
                for mark in marks:
                    mark.unlink()
                reason = lost.get(session) or said or "wandb sync ended without an upload"
                raise _fault(_CUT, base_url, reason)
            done(session)


def _sync(folder: Path, sessions: Sequence[Path], base_url: str, stop: Callable[[], bool]) -> str:
    """Run `wandb sync` on the folders until it ends, stalls or is told to stop; why it was cut off, or the last line it said."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("debug-sync.*.log"):
        old.unlink()
    command = [sys.executable, "-P", "-m", "wandb", "sync", "--include-online", *map(str, sessions)]
    with (logs / "upload.log").open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - the library's own program
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=wandb_environment(folder, base_url)
        )
        try:
            cut = _watch(child, sessions, base_url, stop)
        finally:
            _end(child)
    lines = (logs / "upload.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return cut or next((line.removeprefix("wandb: ").strip() for line in reversed(lines) if line.strip()), "")


def _watch(child: subprocess.Popen[bytes], sessions: Sequence[Path], base_url: str, stop: Callable[[], bool]) -> str | None:
    """Wait for the child; None when it ended by itself, else why it should not go on."""
    marked, moved, looked = 0, time.monotonic(), time.monotonic()
    while child.poll() is None:
        if stop():
            return "stopped"
        if time.monotonic() - looked > _REACH_EVERY_S:
            looked = time.monotonic()
            if not _reaches(base_url):
                return "the connection was cut"
            now_marked = sum(1 for session in sessions if any(session.glob("run-*.wandb.synced")))
            if now_marked > marked:
                marked, moved = now_marked, time.monotonic()
            elif time.monotonic() - moved > _STALLED_S:
                return f"nothing moved for {_STALLED_S:g} s"
        time.sleep(_LOOK_S)
    return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child where it still runs; W&B's helper process ends with it."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _losses(folder: Path, sessions: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The folders of which W&B's log says that something did not arrive, and what. A line that names no folder concerns them all."""
    for log in sorted((folder / "logs").glob("debug-sync.*.log")):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                noted = json.loads(line)
            except ValueError:
                continue
            message = str(noted.get("msg", ""))
            if str(noted.get("level", "")).startswith("ERROR") and _LOST.search(message):
                named = str(noted.get("sync_path", ""))
                yield from ((session, message.splitlines()[0][:300]) for session in sessions if not named or session.name in named)


def _reaches(base_url: str) -> bool:
    """Whether the server answers at all, whatever it says. Goes through the proxy of the environment, as W&B does."""
    try:
        with urllib.request.urlopen(base_url, timeout=_REACH_S):  # noqa: S310 - the address the administrator set
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as fault:
        return isinstance(fault.reason, ssl.SSLError)  # somebody is there; W&B may trust other certificates
    except (OSError, ValueError):
        return False


def _fault(texts: dict[str, str], url: str, reason: str) -> TrackingError:
    reason = reason.rstrip(". ")
    return TrackingError(en=texts["en"].format(url=url, reason=reason), ja=texts["ja"].format(url=url, reason=reason), url=url, reason=reason)
