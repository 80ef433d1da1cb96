"""Fixtures of the whole suite: a workspace of its own for each test, sockets closed except loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from llmops_kit.settings import Settings, silence_libraries
from llmops_kit.store import Store

LONGEST = (
    "tests/test_notebooks.py", "tests/browser/test_tuning.py", "tests/test_tuning_training.py", "tests/browser/test_feedback.py", "tests/test_jobs_ray.py",
    "tests/browser/test_playground.py", "tests/test_forty_raters.py", "tests/browser/test_documents_ask.py", "tests/test_tuning_preferences.py",
    "tests/browser/", "tests/test_starter_lm.py", "tests/faults/", "tests/test_tuning", "tests/test_engine.py", "tests/test_jobs.py",
)  # fmt: skip
"""Files that take minutes. They come first, so that the processes that share the suite end at about the same time."""
os.environ.setdefault("OMP_NUM_THREADS", "1")
silence_libraries(Settings())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, each whole."""
    items.sort(key=lambda item: next((place for place, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST)))


@pytest.fixture(autouse=True)
def _closed_sockets() -> None:
    """Nothing leaves the machine: only loopback (and unix) sockets connect."""
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty folder."""
    return tmp_path / "workspace"


@pytest.fixture
def settings(workspace: Path) -> Settings:
    """Settings of an offline single person."""
    return Settings(workspace=workspace)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An open SQLite store."""
    opened = Store(settings.store_url)
    yield opened
    opened.close()
