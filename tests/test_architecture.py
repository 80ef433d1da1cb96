"""The shape of the code: what importing the kit costs, and the limits the project set itself."""

from __future__ import annotations

import ast
import json
import re
import shutil
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


def measure_cpu_s(code: str) -> float:
    """Seconds of processor time a fresh interpreter takes for `code`, start included: the best of seven, so that other load does not count."""
    script = f"{code}\nimport time; print(time.process_time())"
    return min(float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout) for _ in range(7))


def test_importing_the_kit_takes_less_than_a_tenth_of_a_second() -> None:
    assert measure_cpu_s("import llmops_kit") - measure_cpu_s("pass") < 0.1


def make(folder: Path, target: str, python: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `make target` on a copy of the Makefile, with `python` (a shell script) as the Python to build from."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    fake = folder / "fake-python"
    fake.write_text(f"#!/bin/sh\n{python}")
    fake.chmod(0o755)
    settings = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(["make", target, f"PYTHON={fake}", *settings], capture_output=True, text=True, cwd=folder)


WITHOUT_ENSUREPIP = f"""
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; touch .venv/bin/python; echo "The virtual environment was not created: ensurepip is not available."; exit 1;;
  *ensurepip*) exit 1;;
  *) exec {sys.executable} "$@";;
esac
"""
# A virtual environment whose pip writes down what it was asked, and brings CUDA libraries unless told where torch is.
RECORDING_PIP = f"""
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
  *"-m pip"*) echo "$*" >> asked; mkdir -p .venv/lib/python3/site-packages/nvidia;;
  *) exec {sys.executable} "$@";;
esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_python_without_venv_is_one_line_that_names_the_package(tmp_path: Path) -> None:
    done = make(tmp_path, "install", WITHOUT_ENSUREPIP)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in line
    assert not (tmp_path / ".venv").exists(), "a half-made one would be taken for a whole one the next time"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_torch_index_reaches_pip_and_cuda_without_a_gpu_is_pointed_out(tmp_path: Path) -> None:
    plain, index, wheels = (tmp_path / name for name in ("plain", "index", "wheels"))
    for folder in (plain, index, wheels):
        folder.mkdir()
    done = make(plain, "install", RECORDING_PIP)
    assert done.returncode == 0, done.stderr
    advised = shutil.which("nvidia-smi") is None
    assert ("TORCH_INDEX" in done.stdout) is advised and "index" not in (plain / "asked").read_text()
    done = make(index, "install", RECORDING_PIP, TORCH_INDEX="https://example.org/cpu")
    assert "--extra-index-url https://example.org/cpu" in (index / "asked").read_text() and "TORCH_INDEX" not in done.stdout
    make(wheels, "install", RECORDING_PIP, TORCH_INDEX=str(tmp_path))
    assert f"--find-links {tmp_path}" in (wheels / "asked").read_text()


def test_opening_a_kit_loads_no_model_and_no_face(tmp_path: Path) -> None:
    loaded = modules_after(f"from llmops_kit import open_kit; kit = open_kit({str(tmp_path)!r}); kit.prompts; kit.models; kit.playground; kit.tracking")
    assert not {name for name in loaded if name.split(".")[0] in ("torch", "gradio", "wandb", "fastapi", "chromadb")}


def test_the_public_names_are_these() -> None:
    import llmops_kit

    assert llmops_kit.__all__ == ["Kit", "KitError", "Message", "Prompt", "Run", "Settings", "TuneSpec", "Variable", "open_kit"]
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
