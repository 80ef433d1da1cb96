"""Ingestion killed at random moments: what was acknowledged is searchable after the restart, nothing is doubled, nothing is half there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

KILLS = int(os.environ.get("LLMOPS_TEST_KILLS", "4"))
"""The suite has little time; the figure in BENCHMARKS.md is of 50."""
ROOT = Path(__file__).parents[2]


def start(tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.ingest_until_killed", str(tmp_path / "workspace"), str(tmp_path / "files"), str(tmp_path / "told")]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_acknowledged_documents_survive_kills(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    moments = random.Random(os.environ.get("LLMOPS_TEST_SEED", "5"))
    for _ in range(KILLS + 1):
        process = start(tmp_path)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if line != "verified":
            _, errors = process.communicate(timeout=60)
            raise AssertionError(errors[-3000:])
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        _, errors = process.communicate(timeout=60)
        assert "AssertionError" not in errors, errors[-3000:]
    told = (tmp_path / "told").read_text().split()
    assert len(told) > KILLS, "it was killed before it could take anything in: nothing was tried"


def test_no_reader_process_outlives_a_kill(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    process = start(tmp_path)
    assert process.stdout is not None and process.stdout.readline().strip() == "verified"
    time.sleep(1.0)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (left := _readers()):
        time.sleep(0.2)
    assert not left, left


def _readers() -> list[str]:
    """Command lines of reader processes whose parent is gone."""
    import psutil

    found = []
    for each in psutil.process_iter(["cmdline", "ppid"]):
        line = " ".join(each.info["cmdline"] or [])
        if "llmops_kit.documents.reading" in line and each.info["ppid"] == 1:
            found.append(line)
    return found
