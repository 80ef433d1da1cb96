"""Every notebook runs from top to bottom in an empty folder, with no error and with every cell's outputs committed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.notebooks import FOLDER, execute

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_ends_with_the_app(notebook: Path, tmp_path: Path) -> None:
    executed = execute(notebook, tmp_path)
    last = executed.cells[-1]
    assert "show_app(kit)" in last.source
    assert any("<iframe" in output.get("data", {}).get("text/html", "") for output in last.outputs)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_bilingual_and_carries_its_outputs(notebook: Path) -> None:
    content = nbformat.read(notebook, as_version=4)
    prose = [cell.source for cell in content.cells if cell.cell_type == "markdown"]
    assert all(any("\u3040" <= sign <= "\u30ff" for sign in text) and any(sign.isascii() and sign.isalpha() for sign in text) for text in prose)
    shown = [cell for cell in content.cells if cell.cell_type == "code" and cell.outputs]
    assert len(shown) >= 5
    assert all(output.output_type != "error" for cell in shown for output in cell.outputs)
