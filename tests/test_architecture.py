"""The shape of the code: what importing the kit costs, and the limits the project set itself."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmops_kit"
HEAVY = ("torch", "transformers", "gradio", "chromadb", "wandb", "pandas", "langchain_core", "sqlalchemy", "fastapi")


def modules_after(code: str) -> set[str]:
    """The modules a fresh interpreter has loaded after `code`, less those it starts with."""
    script = f"import sys; before = set(sys.modules)\n{code}\nimport json; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_kit_is_light() -> None:
    loaded = modules_after("import llmops_kit")
    assert len(loaded) < 60
    assert not {name for name in loaded if name.split(".")[0] in HEAVY}


def test_opening_a_kit_loads_no_model_and_no_face(tmp_path: Path) -> None:
    loaded = modules_after(f"from llmops_kit import open_kit; kit = open_kit({str(tmp_path)!r}); kit.prompts; kit.models; kit.playground; kit.tracking")
    assert not {name for name in loaded if name.split(".")[0] in ("torch", "gradio", "wandb", "fastapi", "chromadb")}


def test_the_public_names_are_these() -> None:
    import llmops_kit

    assert llmops_kit.__all__ == ["Kit", "KitError", "Message", "Prompt", "Run", "Settings", "Variable", "open_kit"]
    assert all(getattr(llmops_kit, name) for name in llmops_kit.__all__)
    with pytest.raises(AttributeError):
        llmops_kit.nothing  # noqa: B018


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def test_files_and_functions_stay_short() -> None:
    long_files = {str(path.relative_to(ROOT)): lines for path in sources() if (lines := path.read_text().count("\n")) > 320}
    long_functions = {
        f"{path.name}:{node.name}": length
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := (node.end_lineno or 0) - node.lineno + 1) > 70
    }
    assert not long_files
    assert not long_functions


def test_only_settings_reads_the_environment() -> None:
    readers = [path for path in sources() if re.search(r"os\.(environ|getenv)", path.read_text())]
    assert readers == [PACKAGE / "settings.py"]


def test_no_globals_and_no_machine_paths() -> None:
    for path in sources():
        assert not any(isinstance(node, ast.Global) for node in ast.walk(ast.parse(path.read_text()))), path
    listed = subprocess.run(["git", "grep", "-nE", "/(work|farm|root)/", "--", ".", ":!tests/test_architecture.py"], capture_output=True, text=True, cwd=ROOT)
    assert listed.stdout == ""
