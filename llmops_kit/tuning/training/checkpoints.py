"""Checkpoints of a training: whole or not there. Written aside, synced, with checksums, renamed; the last two are kept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_kit.tuning.folders import as_not_saved, draft_of, seal, settle

_NAME = re.compile(r"step-(\d{6,})")
_KEPT = 2


def write_checkpoint(folder: Path, step: int, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write the files of `step`, and give them their name in `folder` once they are safe on the disk.

    Older ones but one go afterwards; so the last good one is there whatever happens. Raises: `NotSaved` where the disk refuses.
    """
    target = folder / f"step-{step:06d}"
    if _is_whole(target):
        return target
    shutil.rmtree(target, ignore_errors=True)
    with as_not_saved(), draft_of(folder, target.name) as draft:
        try:
            fill(draft)
        except RuntimeError as error:  # torch and safetensors do not say OSError where a disk is full
            raise OSError(str(error)) from error
        seal(draft)
        settle(draft, target)
    for old in list_checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` by step, whole or not."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def find_newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all there as they were written."""
    return next((path for path in reversed(list_checkpoints(folder)) if _is_whole(path)), None)


def step_of(path: Path) -> int:
    """The step whose checkpoint this folder is."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def fill_from_trainer(trainer: Any) -> Callable[[Path], None]:
    """What writes a transformers trainer's adapter, optimiser, schedule, random states and step into a folder, as it reads them again."""

    def fill(draft: Path) -> None:
        trainer.model.save_pretrained(str(draft))
        for unwanted in draft.glob("README.md"):
            unwanted.unlink()
        trainer._save_optimizer_and_scheduler(str(draft))
        trainer._save_rng_state(str(draft))
        trainer.state.save_to_json(str(draft / "trainer_state.json"))

    return fill


def _is_whole(path: Path) -> bool:
    from llmops_kit.models.loading import SUMS_FILE, hash_file

    try:
        lines = (path / SUMS_FILE).read_text(encoding="utf-8").splitlines()
        return bool(lines) and all(hash_file(path / line[66:]) == line[:64] for line in lines)
    except OSError:
        return False
