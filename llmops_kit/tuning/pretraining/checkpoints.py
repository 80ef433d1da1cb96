"""Checkpoints of a pretraining: the weights and the optimiser's state after a step, whole or not at all, the last two of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import ModelRefused
from llmops_kit.models.checksums import verify_folder
from llmops_kit.tuning.folders import draft_of, seal, settle

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{6,})")
_KEPT = 2


def save_checkpoint(job_folder: Path, step: int, model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
    """Write the state after `step` steps aside, bring it to the disk, give it its name, and take older ones but one away.

    `state` is plain JSON that is given back. Raises: `OSError` where the disk refuses; then the checkpoints before it are as they were.
    """
    from safetensors.torch import save_file

    folder = job_folder / FOLDER
    target = folder / f"step-{step:06d}"
    with draft_of(folder, target.name) as draft:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.named_parameters()}, draft / "model.safetensors")
        save_file(_flatten(optimiser), draft / "optimiser.safetensors")
        (draft / "state.json").write_text(json.dumps({**state, "step": step}), encoding="utf-8")
        seal(draft)
        shutil.rmtree(target, ignore_errors=True)  # of an attempt that came as far before: the same, or damaged
        settle(draft, target)
    for old in sorted(_found(folder))[:-_KEPT]:
        shutil.rmtree(folder / f"step-{old:06d}", ignore_errors=True)
    return target


def find_checkpoint(job_folder: Path) -> Path | None:
    """The latest whole checkpoint of a job, or None; a damaged one is passed over."""
    folder = job_folder / FOLDER
    for step in sorted(_found(folder), reverse=True):
        place = folder / f"step-{step:06d}"
        try:
            verify_folder(place, needed=("model.safetensors", "optimiser.safetensors", "state.json"))
        except ModelRefused:
            continue
        return place
    return None


def load_checkpoint(place: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's weights and optimiser state in place, exactly as they were, and give its `state`."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(place / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    saved = load_file(place / "optimiser.safetensors")
    known = optimiser.state_dict()
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in saved.items():
        number, _, part = name.partition(".")
        state.setdefault(int(number), {})[part] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": known["param_groups"]})
    return dict(json.loads((place / "state.json").read_text(encoding="utf-8")))


def _flatten(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimiser.state_dict()["state"]
    return {f"{number}.{part}": tensor.detach().cpu().contiguous() for number, parts in state.items() for part, tensor in parts.items()}


def _found(folder: Path) -> list[int]:
    return [int(match[1]) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))] if folder.is_dir() else []
