"""Starts the real app, `python app.py`, on a free port and a workspace of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@dataclass(frozen=True)
class RunningApp:
    """The address, the workspace and the process of a started app."""

    url: str
    workspace: Path
    process: subprocess.Popen[str]


def find_free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def start_app(workspace: Path, *options: str, start_s: float = 180, **environment: str) -> Iterator[RunningApp]:
    """The app until the block ends; then SIGTERM, and the block fails if it does not leave cleanly."""
    port = find_free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--workspace", str(workspace), *options]
    log = (workspace.parent / f"app-{port}.log").open("w+")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment})
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, process, start_s)
        yield RunningApp(url, workspace, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "the app did not leave with exit code 0"
    except BaseException:
        log.seek(0)
        sys.stderr.write(log.read()[-4000:])
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        log.close()


def _await(url: str, process: subprocess.Popen[str], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        assert process.poll() is None, "the app left before it answered"
        try:
            if httpx.get(f"{url}/healthz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"the app did not answer within {limit_s} s")
