"""The few lines of Python behind each state of the app: what "show the code" shows, and what the tests run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def opening(workspace: Path) -> str:
    """The first lines of every snippet."""
    return f"from llmops_kit import open_kit\n\nkit = open_kit({str(workspace)!r})\n"


def run_code(workspace: Path, prompt: str | Sequence[Mapping[str, str]], *, version: str | None = None, **call: Any) -> str:
    """Code of one call: a library prompt (or a chat) on one model. Empty and unset values are left out."""
    if isinstance(prompt, str):
        asked = repr(prompt) if version in (None, "", "latest") else f"kit.prompts.get({prompt!r}, {_which(str(version))})"
    else:
        asked = repr([dict(turn) for turn in prompt])
    arguments = [asked, *(f"{name}={value!r}" for name, value in call.items() if value not in (None, "", {}, ()))]
    return opening(workspace) + f"run = kit.playground.run({', '.join(arguments)})\nrun\n"


def grid_code(workspace: Path, prompts: Sequence[str], models: Sequence[str], *, file: str, **options: Any) -> str:
    """Code of a batch over the rows of `file`."""
    settings = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, {}, []))
    return (
        opening(workspace).replace("open_kit\n", "open_kit\nfrom llmops_kit.playground.rows import read_rows\n", 1)
        + f"rows = read_rows({file!r})\n"
        + f"table = kit.playground.grid({list(prompts)!r}, {list(models)!r}, rows{settings})\ntable\n"
    )


def history_code(workspace: Path, run_id: str | None) -> str:
    """Code that finds earlier runs again."""
    line = f"kit.playground.get({run_id!r})" if run_id else "kit.playground.history(limit=20)"
    return opening(workspace) + line + "\n"


def version_code(workspace: Path, name: str, old: str, new: str) -> str:
    """Code that reads a version and compares two."""
    return opening(workspace) + f"kit.prompts.get({name!r}, version={int(new)})\nkit.prompts.diff({name!r}, {int(old)}, {int(new)})\n"


def models_code(workspace: Path) -> str:
    """Code of the model panel."""
    return opening(workspace) + "kit.models.table()\n"


def _which(version: str) -> str:
    return f"version={int(version)}" if version.isdecimal() else f"label={version!r}"
