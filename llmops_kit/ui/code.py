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


def grid_code(workspace: Path, prompts: Sequence[str], models: Sequence[str], *, rows: str, **options: Any) -> str:
    """Code of a batch over `rows`: the lines of `rows_code`. Settings that are as the prompts say are left out."""
    settings = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, {}, [], [{}]))
    head = opening(workspace)
    if "read_rows(" in rows:
        head = head.replace("open_kit\n", "open_kit\nfrom llmops_kit.playground.rows import read_rows\n", 1)
    return f"{head}{rows}table = kit.playground.grid({list(prompts)!r}, {list(models)!r}, rows{settings})\ntable\n"


def rows_code(rows: Sequence[Mapping[str, str]], *, file: str = "", encoding: str = "", mapping: Mapping[str, str | None] | None = None) -> str:
    """The lines that make `rows`: read from `file` with its columns mapped to variables, or, where there is none, as they are."""
    if not file:
        return "rows = [\n" + "".join(f"    {dict(row)!r},\n" for row in rows) + "]\n"
    options = f", encoding={encoding!r}" if encoding else ""
    return f"rows = read_rows({file!r}{options}).map({dict(mapping or {})!r})\n"


def resume_code(workspace: Path, grid_id: str) -> str:
    """Code that runs what a batch still lacks and gives its table."""
    return opening(workspace) + f"table = kit.playground.grid(resume={grid_id!r})\ntable\n"


def answers_code(workspace: Path, grid_id: str) -> str:
    """Code that gives the table of an earlier batch as it is."""
    head = opening(workspace).replace("open_kit\n", "open_kit\nfrom llmops_kit.playground.grid import grid_table\n", 1)
    return f"{head}table = grid_table(kit.store, {grid_id!r})\ntable\n"


def history_code(workspace: Path, run_id: str | None) -> str:
    """Code that finds earlier runs again."""
    line = f"kit.playground.get({run_id!r})" if run_id else "kit.playground.history(limit=20)"
    return opening(workspace) + line + "\n"


def rate_code(workspace: Path, run_id: str) -> str:
    """Code that rates an answer and reads what was said of it."""
    return opening(workspace) + f"kit.feedback.rate({run_id!r}, score=4, comment='…')\nkit.feedback.table({run_id!r})\n"


def version_code(workspace: Path, name: str, old: str, new: str) -> str:
    """Code that reads a version and compares two."""
    return opening(workspace) + f"kit.prompts.get({name!r}, version={int(new)})\nkit.prompts.diff({name!r}, {int(old)}, {int(new)})\n"


def models_code(workspace: Path) -> str:
    """Code of the model panel."""
    return opening(workspace) + "kit.models.table()\n"


def documents_code(workspace: Path, files: Sequence[str], *, collection: str, **options: Any) -> str:
    """Code that takes files in and lists them. Options that are as usual are left out."""
    settings = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, "", False, [], ()))
    named = list(files) if len(files) <= 5 else [*files[:5], "…"]
    return opening(workspace) + f"kit.documents.add({named!r}, collection={collection!r}{settings})\nkit.documents.table({collection!r})\n"


def pages_code(workspace: Path, document: str, *, participant: str | None = None) -> str:
    """Code that gives the quality report of a document, leaves its second page out and makes it searchable."""
    whose = f", participant={participant!r}" if participant else ""
    calls = (f"pages({document!r}{whose})", f"drop_pages({document!r}, [2]{whose})", f"index({document!r}{whose})")
    return opening(workspace) + "".join(f"kit.documents.{call}\n" for call in calls)


def _which(version: str) -> str:
    return f"version={int(version)}" if version.isdecimal() else f"label={version!r}"
