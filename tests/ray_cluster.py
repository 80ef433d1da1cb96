"""A real Ray cluster of two nodes on this machine, for tests: small, on ports of its own, gone when the block ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.app_process import find_free_port

_NODE = ("--object-store-memory=100000000", "--num-cpus=2", "--num-gpus=0", "--node-ip-address=127.0.0.1", "--block")
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_METRICS_EXPORT_INTERVAL_MS": "60000", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class RunningCluster:
    """The address of its job server, and its nodes' processes."""

    address: str
    head: subprocess.Popen[bytes]
    second: subprocess.Popen[bytes]


@contextmanager
def two_nodes() -> Iterator[RunningCluster]:
    """Two nodes of two CPU cores each."""
    # Sockets have names of at most 107 characters: the folder of a test is too deep.
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray, "Ray is not installed beside this Python"
    gcs, board, client = find_free_port(), find_free_port(), find_free_port()
    log = (Path(folder) / "start.log").open("wb")

    def start(*options: str) -> subprocess.Popen[bytes]:
        agents = (f"--dashboard-agent-listen-port={find_free_port()}", f"--dashboard-agent-grpc-port={find_free_port()}")  # two on one machine
        command = [ray, "start", *options, *_NODE, *agents]
        return subprocess.Popen(command, env={**os.environ, **_QUIET}, start_new_session=True, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    ports = (f"--port={gcs}", f"--dashboard-port={board}", f"--ray-client-server-port={client}")
    head = start("--head", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--disable-usage-stats", *ports)
    second = None
    address = f"http://127.0.0.1:{board}"
    try:
        _await(address, head)
        second = start(f"--address=127.0.0.1:{gcs}")
        _await_nodes(address, 2)
        yield RunningCluster(address, head, second)
    finally:
        for node in (second, head):
            if node is not None:
                stop(node)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def stop(node: subprocess.Popen[bytes]) -> None:
    """End a node with all it started, and only that."""
    try:
        started = psutil.Process(node.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    if node.poll() is None:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(15)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
    for process in started:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _await(address: str, head: subprocess.Popen[bytes], limit_s: float = 90) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        assert head.poll() is None, "the head left"
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"the job server did not answer within {limit_s} s")


def _await_nodes(address: str, count: int, limit_s: float = 60) -> None:
    from ray.util.state import list_nodes

    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if sum(node.state == "ALIVE" for node in list_nodes(address=address)) == count:
            return
        time.sleep(0.3)
    raise AssertionError(f"not {count} nodes within {limit_s} s")
