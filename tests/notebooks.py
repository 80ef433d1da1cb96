"""Runs the notebooks top to bottom; `python -m tests.notebooks` also writes their outputs back for readers without a machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"


def execute(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in `folder` as a newcomer's working directory."""
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return content


def clean(content: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Without what differs on every machine: times of execution and the folder it ran in."""
    for cell in content.cells:
        cell.metadata.pop("execution", None)
    text = nbformat.writes(content).replace(str(folder), "…")
    return nbformat.reads(text, as_version=4)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as place:
            nbformat.write(clean(execute(path, Path(place)), Path(place)), path)
        sys.stdout.write(f"{path.name}: executed\n")
