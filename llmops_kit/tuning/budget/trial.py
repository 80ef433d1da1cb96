"""A trial of ten steps in a process of its own: its memory is watched, and it is ended when it takes more than it may."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError
from llmops_kit.settings import job_environment
from llmops_kit.tuning.frozen import freeze_dataset
from llmops_kit.types import new_id

if TYPE_CHECKING:
    from llmops_kit.settings import Settings
    from llmops_kit.tuning.dataset import Dataset
    from llmops_kit.tuning.spec import TuneSpec

STEPS = 10
SPEC_FILE, RESULT_FILE = "spec.json", "trial.json"
_LOOK_S = 0.2
_PATIENCE_S = 300.0
"""A trial that is not over by then is ended; the steps it did by then count."""


class TrialFailed(KitError):
    """The trial ended without a step (`reason`)."""

    key = "error.trial"
    what = {"en": "The trial of ten steps failed: {reason}.", "ja": "10ステップの試行に失敗しました：{reason}。"}
    next_step = {"en": "The estimate by formula still holds.", "ja": "計算式による見積もりは利用できます。"}


@dataclass(frozen=True)
class Trial:
    """What was measured: how many steps, tokens a second of the steps after the first, and the most memory in gigabytes.

    `is_over` says that it was ended because it took more memory than it may.
    """

    steps: int
    tokens_per_s: float
    memory_gb: float
    is_over: bool = False


def run_trial(dataset: Dataset, spec: TuneSpec, settings: Settings, *, limit_gb: float, tell: Callable[[int, int, float | None], None]) -> Trial:
    """Run ten steps of a resolved `spec` in a child process, which is ended when its memory passes `limit_gb`. On a GPU that is the GPU's own.

    Raises: `TrialFailed` where not one step was done for another reason than memory.
    """
    folder = settings.jobs_folder / f".trial-{new_id()}"
    try:
        freeze_dataset(dataset, folder)
        (folder / SPEC_FILE).write_text(spec.model_dump_json(), encoding="utf-8")
        return _watch(folder, settings, limit_gb, tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(folder: Path, settings: Settings, limit_gb: float, tell: Callable[[int, int, float | None], None]) -> Trial:
    import psutil

    environment = job_environment(settings, f"trial-{folder.name[-12:]}")
    command = [sys.executable, "-P", "-m", "llmops_kit.tuning.budget.trial_steps", str(folder)]
    with (folder / "log.txt").open("wb") as log, subprocess.Popen(  # noqa: S603 - this interpreter, this package
        command, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as child:
        began, peak, over = time.monotonic(), 0.0, False
        try:
            watched = psutil.Process(child.pid)
            while child.poll() is None:
                with suppress(psutil.Error):
                    peak = max(peak, watched.memory_info().rss / 1e9)
                done = _read(folder)
                tell(int(done.get("steps", 0)), STEPS, None)
                over = peak > limit_gb and done.get("device") != "cuda"
                if over or time.monotonic() - began > _PATIENCE_S:
                    break
                time.sleep(_LOOK_S)
        finally:
            _end(child)
    done = _read(folder)
    steps, memory = int(done.get("steps", 0)), float(done.get("memory_gb", 0.0))
    over = over or bool(done.get("out_of_memory"))
    if not over and (steps < 1 or not done.get("tokens_per_s")):
        raise TrialFailed(reason=done.get("reason") or _last_line(folder))
    return Trial(steps, float(done.get("tokens_per_s", 0.0)), max(memory, peak) if done.get("device") != "cuda" else memory, over)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started; where it ended by itself, nothing is left of its group."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL) if hasattr(os, "killpg") else child.kill()
    child.wait()


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _last_line(folder: Path) -> str:
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no steps"
