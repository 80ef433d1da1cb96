"""Fifty people rate at once: `kit.feedback.rate` beside plain SQLite, one row per transaction, and beside Gradio's own flagging.

Each is driven by fifty threads without a pause, in turns of some seconds, so that a slow moment of the machine hits all of them; then
each is killed in the middle of it, and what it had acknowledged is looked for.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil

from llmops_kit import open_kit
from llmops_kit.types import Feedback, OutboxItem, Run, new_id, now
from tests.app_process import ROOT

RATERS = 50
SECONDS = 60.0
TURNS = 6
RUNS = 200
KILLS = 5
COMMENT = "根拠が示されていて、わかりやすい回答です。"


class Rater(Protocol):
    """What takes a rating. `rate` returns when it says that it is saved."""

    def rate(self, rater: int, id: str) -> object: ...


class System(Rater, Protocol):
    """A way of keeping ratings."""

    def ids(self) -> set[str]: ...

    def close(self) -> None: ...


class Ours:
    """`kit.feedback.rate`: checks the rating and the Run, and writes two rows, the event and its place in the outbox."""

    def __init__(self, folder: Path) -> None:
        self.kit = open_kit(folder)
        self.runs = [f"run-{number}" for number in range(RUNS)]
        for id in self.runs:
            self.kit.store.append(Run(id, now(), "p", "playground", "starter-lm", messages=(), prompt_sha256="0" * 64, output="答え"))
        self.kit.feedback  # noqa: B018 - opened before the clock runs

    def rate(self, rater: int, id: str) -> object:
        return self.kit.feedback.rate(random.choice(self.runs), random.randint(1, 5), rater=f"rater-{rater}", comment=COMMENT, id=id, source="ui")

    def ids(self) -> set[str]:
        published = {id for (id,) in self.kit.store.values(OutboxItem, ("record_id",))}
        return {id for (id,) in self.kit.store.values(Feedback, ("id",))} & published

    def close(self) -> None:
        self.kit.close()


class Sqlite:
    """The same row in the same table with the same indexes by `sqlite3`, synced on every commit: a connection per rater, or one behind a lock."""

    def __init__(self, folder: Path, *, shared: bool) -> None:
        with open_kit(folder / "kit") as kit, sqlite3.connect(str(kit.store.url.database)) as made:
            statements = [sql for (sql,) in made.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'feedback' AND sql > ''")]
        self.connections = [self._connect(folder / "plain.sqlite") for _ in range(1 if shared else RATERS)]
        if not self.connections[0].execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in statements:
                self.connections[0].execute(statement)
        self.locks = [threading.Lock() for _ in self.connections]

    @staticmethod
    def _connect(file: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def rate(self, rater: int, id: str) -> object:
        scores = json.dumps({"score": random.randint(1, 5)})
        values = (id, now().isoformat(), f"run-{random.randrange(RUNS)}", f"rater-{rater}", scores, COMMENT, "[]", "ui", 0, "[]")
        names = "id, created_at, run_id, rater, scores, comment, tags, source, withdrawn, flags"
        place = rater % len(self.connections)
        with self.locks[place]:
            return self.connections[place].execute(f"INSERT INTO feedback ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def ids(self) -> set[str]:
        return {id for (id,) in self.connections[0].execute("SELECT id FROM feedback")}

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


class Flagging:
    """`gradio.flagging.CSVLogger`, as a Blocks app with a flag button calls it. It syncs nothing, and reads its whole file again after each row."""

    def __init__(self, folder: Path) -> None:
        import gradio as gr

        self.folder = folder
        self.logger = gr.CSVLogger(verbose=False)
        self.logger.setup([gr.Textbox(label=name) for name in ("id", "run", "score", "comment")], folder)

    def rate(self, rater: int, id: str) -> object:
        return self.logger.flag([id, f"run-{random.randrange(RUNS)}", str(random.randint(1, 5)), COMMENT], username=f"rater-{rater}")

    def ids(self) -> set[str]:
        found: set[str] = set()
        for file in self.folder.glob("dataset*.csv"):
            with file.open(newline="", encoding="utf-8") as text:
                found |= {row[0] for row in csv.reader(text) if len(row) == 6}
        return found

    def close(self) -> None: ...


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "kit.feedback.rate": Ours,
    "sqlite3, a connection per rater": lambda folder: Sqlite(folder, shared=False),
    "sqlite3, one connection behind a lock": lambda folder: Sqlite(folder, shared=True),
    "gradio CSVLogger": Flagging,
}


def run(seconds: float = SECONDS) -> None:
    """Ratings per second and how long each rater waits, then what survives a kill."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{RATERS} threads, {seconds:g} s each in {TURNS} turns, on {_name_disk(folder)}; a sync of 4 KB takes {_time_sync(folder):.2f} ms (median).\n")
        systems = {name: make(folder / str(number)) for number, (name, make) in enumerate(SYSTEMS.items())}
        saved: dict[str, dict[str, float]] = {name: {} for name in systems}
        spent = dict.fromkeys(systems, 0.0)
        refused = dict.fromkeys(systems, 0)
        for _ in range(TURNS):
            for name, system in systems.items():
                started = time.perf_counter()
                refused[name] += drive(system, seconds / TURNS, saved[name])
                spent[name] += time.perf_counter() - started
        rates = {name: len(saved[name]) / spent[name] for name in systems}
        plain = max(rate for name, rate in rates.items() if name.startswith("sqlite3"))
        print("| | ratings/s | to the faster sqlite3 | p50 (ms) | p99 (ms) | longest (ms) | acknowledged | of them lost | refused |\n|" + "---|" * 9)
        for name, system in systems.items():
            waits = sorted(saved[name].values())
            times = " | ".join(f"{waits[min(len(waits) - 1, int(len(waits) * share))] * 1000:.1f}" for share in (0.5, 0.99, 1))
            lost = len(saved[name].keys() - system.ids())
            print(f"| {name} | {rates[name]:,.0f} | {rates[name] / plain:.2f}× | {times} | {len(waits):,} | {lost} | {refused[name]} |")
            system.close()
    _kill_each()


def drive(system: Rater, seconds: float, saved: dict[str, float]) -> int:
    """Fifty threads until the time is up. Adds to `saved` the seconds each acknowledged rating took, by id; gives how many were refused."""
    refused = [0] * RATERS
    end = time.perf_counter() + seconds

    def rate(rater: int) -> None:
        while (started := time.perf_counter()) < end:
            id = new_id()
            try:
                system.rate(rater, id)
            except Exception:  # noqa: BLE001 - counted
                refused[rater] += 1
            else:
                saved[id] = time.perf_counter() - started

    threads = [threading.Thread(target=rate, args=(rater,)) for rater in range(RATERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(refused)


def _kill_each() -> None:
    """Fresh processes with fifty raters, each ended by kill −9 after about two seconds; the next goes on with the same files."""
    print(f"\nKilled (−9) {KILLS} times in the middle of it:\n\n| | acknowledged | of them lost |\n|---|---|---|")
    for name, make in SYSTEMS.items():
        with tempfile.TemporaryDirectory() as temporary:
            told = Path(temporary) / "told"
            for _ in range(KILLS):
                before = told.stat().st_size if told.exists() else 0
                child = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.rating", name, temporary], cwd=ROOT)
                while not told.exists() or told.stat().st_size == before:
                    time.sleep(0.01)
                time.sleep(random.uniform(1, 3))
                child.send_signal(signal.SIGKILL)
                child.wait()
            acknowledged = {line for line in told.read_text().splitlines() if len(line) == 36}
            system = make(Path(temporary) / "system")
            lost = len(acknowledged - system.ids())
            system.close()
        print(f"| {name} | {len(acknowledged):,} | {lost} |")


def rate_until_killed(name: str, folder: Path) -> None:
    """The id of each rating that was acknowledged is a line in the file `told`."""
    system = SYSTEMS[name](folder / "system")
    told = os.open(folder / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Telling:
        """The system, with a note after each rating."""

        def rate(self, rater: int, id: str) -> None:
            system.rate(rater, id)
            os.write(told, f"{id}\n".encode())

    drive(Telling(), 600, {})


def _name_disk(folder: Path) -> str:
    found = max((part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)), key=lambda part: len(part.mountpoint))
    return found.fstype


def _time_sync(folder: Path) -> float:
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return sorted(times)[100] * 1000


if __name__ == "__main__":
    rate_until_killed(sys.argv[1], Path(sys.argv[2]))
