"""The guard: what a hostile file costs, what it cannot reach, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_kit.documents.reading import Guard, Limits
from llmops_kit.errors import Cancelled
from tests import pdf_bytes

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard() as opened:
        yield opened


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("出張の申請は3日前までに出します。\n", encoding="utf-8")
    return path


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A file that keeps a reader busy for many seconds."""
    path = tmp_path / "slow.pdf"
    path.write_bytes(pdf_bytes.shared_stream(pages=100, size_mb=8))
    return path


def wait_for(look: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def server_of(pid: int) -> psutil.Process | None:
    return next((each for each in psutil.Process(pid).children() if "llmops_kit.documents.reading.server" in " ".join(each.cmdline())), None)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def working_child(guard: Guard) -> psutil.Process | None:
    """The child that reads now: the one that has used the processor."""
    server = guard._process and psutil.Process(guard._process.pid)
    return next((each for each in (server.children() if server else []) if each.cpu_times().user > 0.2), None)


class Reader(threading.Thread):
    """Reads one file in a thread of its own and keeps the outcome."""

    def __init__(self, guard: Guard, path: Path) -> None:
        super().__init__(daemon=True)
        self.guard, self.path = guard, path
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.guard.read(self.path, self.path.name)
        except Cancelled as stopped:
            self.outcome = stopped


def test_a_small_file_is_read_with_its_facts(guard: Guard, note: Path) -> None:
    reading = guard.read(note, "メモ.txt")
    (page,) = reading.pages
    assert (reading.state, reading.kind, reading.reason, page.number) == ("read", "txt", None, 1)
    assert page.text == "出張の申請は3日前までに出します。\n"
    assert page.facts.characters == 17 and page.facts.japanese_share == pytest.approx(15 / 17, abs=0.001)


def test_many_files_share_one_server_and_each_has_a_process_of_its_own(guard: Guard, note: Path) -> None:
    guard.read(note, "a.txt")
    server = psutil.Process(guard._process.pid)
    children = set()
    for number in range(20):
        children |= {each.pid for each in wait_for(server.children)}  # the child for the next file waits already
        assert guard.read(note, f"{number}.txt").state == "read"
    assert guard._process.pid == server.pid
    assert len(children) >= 20


def test_a_server_for_every_file_reads_the_same(note: Path, guard: Guard) -> None:
    with Guard(single=True) as alone:
        assert alone.read(note, "a.txt") == guard.read(note, "a.txt")
        assert alone.read(note, "b.txt").state == "read"


def test_an_empty_a_missing_and_a_too_large_file_have_their_reasons(guard: Guard, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    assert guard.read(tmp_path / "empty.txt", "empty.txt").key == "empty"
    assert guard.read(tmp_path / "gone.txt", "gone.txt").key == "missing_file"
    (tmp_path / "large.txt").write_bytes(b"a" * 3_000_000)
    with Guard(Limits(input_bytes=2 << 20)) as small:
        reading = small.read(tmp_path / "large.txt", "large.txt")
    assert (reading.state, reading.key, reading.facts) == ("quarantined", "too_large", {"found": 2, "allowed": 2})
    assert "2 MB" in reading.reason["en"] and "上限は2 MB" in reading.reason["ja"]


@on_linux
def test_a_stream_that_unpacks_to_a_gigabyte_ends_at_the_memory_limit(guard: Guard, tmp_path: Path, note: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(pdf_bytes.flate_bomb(1000))
    reading = guard.read(tmp_path / "bomb.pdf", "bomb.pdf")
    assert (reading.state, reading.key) == ("quarantined", "memory")
    assert "1024 MB" in reading.reason["en"] and "1024 MB" in reading.reason["ja"]
    assert guard.read(note, "next.txt").state == "read"


@on_linux
def test_two_hundred_pages_that_share_a_large_stream_end_at_a_limit(guard: Guard, tmp_path: Path, note: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(pdf_bytes.shared_stream(pages=200, size_mb=60))
    reading = guard.read(tmp_path / "bomb.pdf", "bomb.pdf")
    assert (reading.state, reading.pages) == ("quarantined", ()) and reading.key in ("memory", "processor", "time")
    assert guard.read(note, "next.txt").state == "read"


@on_linux
def test_computing_without_end_stops_at_the_processor_limit(slow: Path, note: Path) -> None:
    with Guard(Limits(processor_s=1, memory_bytes=8 << 30)) as guard:
        reading = guard.read(slow, "slow.pdf")
        assert (reading.state, reading.key, reading.facts) == ("quarantined", "processor", {"allowed": 1})
        assert guard.read(note, "next.txt").state == "read"


@on_linux
def test_a_child_that_hangs_is_killed_at_the_wall_limit(slow: Path, note: Path) -> None:
    with Guard(Limits(wall_s=4.0, memory_bytes=8 << 30)) as guard:
        reader = Reader(guard, slow)
        child = wait_for(lambda: working_child(guard))
        child.suspend()
        reader.join(20)
        assert (reader.outcome.state, reader.outcome.key, reader.outcome.facts) == ("quarantined", "time", {"allowed": 4.0})
        assert is_gone(child)
        assert guard.read(note, "next.txt").state == "read"


@on_linux
def test_a_child_that_still_computes_gets_more_time_up_to_an_end(slow: Path, tmp_path: Path) -> None:
    book = pdf_bytes.Pdf()
    for number in range(400):
        book.page(pdf_bytes.paragraph([f"Line {line} of page {number} of the report." for line in range(20)], 72, 740))
    (tmp_path / "book.pdf").write_bytes(book.bytes())
    with Guard(Limits(wall_s=0.1)) as guard:  # as if the machine were so busy that the file took longer than it may
        assert len(guard.read(tmp_path / "book.pdf", "book.pdf").pages) == 400
    with Guard(Limits(wall_s=0.1, starved_s=2.0, memory_bytes=8 << 30)) as guard:
        assert guard.read(slow, "slow.pdf").key == "time"


@on_linux
def test_a_crash_ends_one_file_and_not_the_next(slow: Path, note: Path) -> None:
    with Guard(Limits(memory_bytes=8 << 30)) as guard:
        reader = Reader(guard, slow)
        child = wait_for(lambda: working_child(guard))
        server = guard._process.pid
        child.send_signal(signal.SIGSEGV)
        reader.join(20)
        assert (reader.outcome.state, reader.outcome.key, reader.outcome.facts) == ("quarantined", "crash", {"detail": "SIGSEGV"})
        assert guard.read(note, "next.txt").state == "read" and guard._process.pid == server


def test_stop_from_another_thread_ends_the_reading_and_the_next_one_works(slow: Path, note: Path) -> None:
    with Guard() as guard:
        guard.stop()  # nothing runs: nothing happens
        reader = Reader(guard, slow)
        child = wait_for(lambda: working_child(guard))
        guard.stop()
        reader.join(20)
        assert isinstance(reader.outcome, Cancelled)
        assert wait_for(lambda: is_gone(child))
        assert guard.read(note, "next.txt").state == "read"


def test_a_server_that_was_killed_is_replaced(note: Path) -> None:
    with Guard() as guard:
        guard.read(note, "a.txt")
        guard._process.kill()
        guard._process.wait()
        assert guard.read(note, "b.txt").state == "read"


def test_closing_leaves_no_process_behind(note: Path) -> None:
    guard = Guard()
    guard.read(note, "a.txt")
    server = psutil.Process(guard._process.pid)
    processes = [server, *(wait_for(server.children) if hasattr(os, "fork") else [])]
    guard.close()
    assert len(processes) > 1 or not hasattr(os, "fork")
    assert all(wait_for(lambda each=each: is_gone(each)) for each in processes)


@on_linux
def test_killing_the_parent_leaves_no_process_behind(slow: Path) -> None:
    script = f"""
        from pathlib import Path
        from llmops_kit.documents.reading import Guard
        Guard().read(Path({str(slow)!r}), "slow.pdf")
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    server = wait_for(lambda: server_of(parent.pid))
    wait_for(lambda: server.children())
    processes = [server, *server.children(recursive=True)]
    parent.kill()
    parent.wait()
    assert len(processes) > 1
    assert all(wait_for(lambda each=each: is_gone(each)) for each in processes)


@on_linux
def test_the_child_has_no_network_no_other_program_and_bounded_files() -> None:
    script = """
        import ctypes, os, resource, socket, subprocess
        from llmops_kit.documents.reading import isolation
        from llmops_kit.documents.reading.records import Limits
        closed = isolation.close_network()
        isolation.confine(Limits(), programs=False)
        def refused(call):
            try:
                call()
            except OSError:
                return True
            return False
        libc = ctypes.CDLL(None, use_errno=True)
        print(refused(socket.socket), refused(lambda: socket.create_connection(("127.0.0.1", 9))), libc.socket(2, 1, 0) == -1 and ctypes.get_errno() == 1,
              refused(lambda: subprocess.run(["/bin/true"])), refused(lambda: os.kill(os.getppid(), 0)), resource.getrlimit(resource.RLIMIT_CPU)[0] == 20,
              resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 64 << 20, not closed or len(os.listdir("/sys/class/net")) >= 0)
        try:
            bytearray(2 << 30)
        except MemoryError:
            print("memory")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True"] * 8 + ["memory"], done.stderr


def test_the_child_gets_none_of_the_parents_environment(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-test")
    with Guard() as guard:
        guard.read(note, "a.txt")
        assert "OPENAI_API_KEY" not in psutil.Process(guard._process.pid).environ()
