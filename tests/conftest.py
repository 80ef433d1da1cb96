"""Fixtures of the whole suite: a workspace of its own for each test, sockets closed except loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from llmops_kit.settings import Settings, silence_libraries
from llmops_kit.store import Store

os.environ.setdefault("OMP_NUM_THREADS", "1")
silence_libraries(Settings())


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
