"""What the rating kill test kills: threads that rate and vote, and one that carries the rows to W&B, until somebody ends them.

Each writes down what it is about to send, and that it was acknowledged once the call has returned. Whoever starts next sends again what
was not acknowledged, under the same ids. Everything heavy is imported here, so that a process forked from one that has it starts at once.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pandas as pd  # noqa: F401
import wandb  # noqa: F401

from llmops_kit import open_kit
from llmops_kit.comparison.voting import effective  # noqa: F401
from llmops_kit.feedback.rating import make_rating  # noqa: F401
from llmops_kit.kit import Kit
from llmops_kit.tracking import Tracking  # noqa: F401
from llmops_kit.types import Message, Run, new_id, now

RATERS = 5
RUNS = 8
BURST = 3


class Told:
    """The file of what was tried and what was acknowledged, one JSON per line. A line is one write: it is there as a whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._path = path

    def say(self, **line: Any) -> None:
        """Add a line."""
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def read(self) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """The ids tried, each with what was said, and those acknowledged. Raises `AssertionError` for an error that a thread met."""
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        faults = [line["fault"] for line in lines if "fault" in line]
        assert not faults, faults[:3]
        return {line["tried"]: line for line in lines if "tried" in line}, {line["acknowledged"] for line in lines if "acknowledged" in line}


def main(workspace: str, told_path: str, base_url: str | None, seed: int) -> None:
    """Rate until killed; W&B is online where `base_url` is given, whether somebody listens there or not."""
    os.setsid()  # so that W&B's own processes can be killed with this one, as a machine that loses its power does
    mode: dict[str, Any] = {"wandb_mode": "online", "wandb_base_url": base_url} if base_url else {"wandb_mode": "offline"}
    told = Told(Path(told_path))
    tried, acknowledged = told.read()
    kit = open_kit(workspace, **mode)
    runs = [make_run(number) for number in range(RUNS)]
    for run in runs:
        kit.store.append(run, publish="run")
    for id, line in tried.items():
        if id not in acknowledged:
            send(kit, runs, told, line)
    threads = [threading.Thread(target=_loudly, args=(told, rate_forever, kit, runs, told, f"{seed}-{number}")) for number in range(RATERS)]
    threads.append(threading.Thread(target=_loudly, args=(told, carry_forever, kit, seed)))
    for thread in threads:
        thread.start()
    told.say(started=seed)


def make_run(number: int) -> Run:
    """A finished answer, the same in every process: the two of a pair answer the same item."""
    asked, item = (Message("user", f"{number // 2}番目の質問"),), f"i{number // 2}"
    facts: dict[str, Any] = {"prompt_sha256": "0" * 64, "output": f"答え{number}", "finish_reason": "stop", "item": item}
    return Run(str(uuid5(NAMESPACE_URL, f"kill test {number}")), now(), "p", "playground", f"model-{number % 2}", asked, **facts)


def rate_forever(kit: Kit, runs: list[Run], told: Told, rater: str) -> None:
    """Bursts of ratings and votes in no order: bursts of several raters fall together and share a commit."""
    chance = random.Random(rater)
    while True:
        for _ in range(BURST):
            line = {"tried": new_id(), "run": chance.randrange(RUNS), "score": chance.randint(1, 5), "rater": rater, "vote": chance.random() < 0.4}
            told.say(**line)
            send(kit, runs, told, line)
        time.sleep(chance.uniform(0, 0.1))


def send(kit: Kit, runs: list[Run], told: Told, line: dict[str, Any]) -> None:
    """Send what `line` says, and note that it was acknowledged."""
    id, number, score = line["tried"], line["run"], line["score"]
    if line["vote"]:
        kit.comparison.vote((runs[number], runs[number ^ 1]), "A" if score > 3 else "tie", rater=line["rater"], id=id)
    else:
        kit.feedback.rate(runs[number], score, thumb=True if score == 5 else None, comment="よい👍" * (score % 2), rater=line["rater"], id=id)
    told.say(acknowledged=id)


def carry_forever(kit: Kit, seed: int) -> None:
    """Bring the rows to W&B, in the background as the app does or again and again by hand."""
    if seed % 2:
        kit.tracking.start()
        return
    while True:
        kit.tracking.sync(progress=False)
        time.sleep(0.05)


def _loudly(told: Told, work: Any, *given: Any) -> None:
    try:
        work(*given)
    except BaseException as fault:
        told.say(fault=f"{type(fault).__name__}: {fault}")
        raise
